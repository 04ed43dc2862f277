//! The real world: data path, pidfile, upgrade socket and the paths of Unix listeners.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::reports::count;
use super::tally::Counting;
use super::{Cause, DataPath, DrainTally, Exit, Settings, Tidings, World};
use crate::base::{Address, InstanceReport, InstanceState, ListenerId, Moved};
use crate::handoff::{
    Bounds, Desk, DeskEvent, Giver, Identity, Taker, fault_step, is_in_service, with_cause,
};
use crate::listen::{Ending, Leave, WINDOW, certificates};
use crate::system::{Account, Bound, Listening, Origin, OwnedPath, PathError, PidFile, master_of};
use crate::tls::Store;

/// How many processes are known that the service was offered to: more than may be there still at a time.
const MAX_HEIRS: usize = 64;

/// Everything that transitions act on.
#[derive(Debug)]
pub(super) struct Office<D> {
    settings: Arc<Settings>,
    certificates: Store,
    data_path: D,
    /// What could be offered to a successor; emptied when the listeners are closed.
    listeners: Vec<Listening>,
    /// The paths of Unix listeners that this process removes at its end.
    paths: Vec<(ListenerId, Origin, OwnedPath)>,
    /// Listeners that a successor did not want, with the addresses they had, to be bound again if it dies.
    given_up: Vec<(ListenerId, Address)>,
    pid_file: Option<PidFile>,
    desk: Option<Desk>,
    /// The processes that were let to take the files, to take them back from, until they touch nothing any more.
    heirs: Vec<u32>,
    begun: Instant,
    counting: Counting,
}

impl<D: DataPath> Office<D> {
    pub(super) fn new(settings: Arc<Settings>, data_path: D) -> Self {
        Self {
            certificates: certificates(&settings.listeners),
            settings,
            data_path,
            listeners: Vec::new(),
            paths: Vec::new(),
            given_up: Vec::new(),
            pid_file: None,
            desk: None,
            heirs: Vec::new(),
            begun: Instant::now(),
            counting: Counting::default(),
        }
    }

    /// Who waits to take over.
    pub(super) fn waiter(&self) -> Option<u32> {
        self.desk.as_ref().and_then(Desk::waiter)
    }

    pub(super) fn poll_desk(&mut self, state: InstanceState, cx: &mut Context<'_>) -> Poll<DeskEvent> {
        let Some(desk) = &mut self.desk else { return Poll::Pending };
        desk.enter(state);
        desk.poll_next(cx)
    }

    /// Tells those who asked at the desk what instances there are, of which this is `own`.
    pub(super) fn answer(&mut self, own: InstanceReport) {
        if let Some(desk) = &mut self.desk {
            desk.answer(own);
        }
    }

    /// How many of the connections are tunnels.
    pub(super) fn tunnels(&self) -> usize {
        self.data_path.tunnels()
    }

    /// This build, and how long the instance has run.
    pub(super) fn build_and_age(&self) -> (&str, Duration) {
        (&self.settings.build, self.begun.elapsed())
    }

    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.data_path.poll_idle(cx)
    }

    /// As [`DataPath::pulse`].
    pub(super) fn pulse(&self) -> bool {
        self.data_path.pulse()
    }

    /// Passes connections that leave on to the successor.
    pub(super) fn pass_on(&mut self, successor: &mut Giver, cx: &mut Context<'_>) {
        for _ in 0..WINDOW {
            let Poll::Ready(departure) = self.data_path.poll_departure(cx) else { return };
            if !successor.can_move() {
                // It stays, and none is to follow it out.
                drop(departure);
                self.data_path.leave(Leave::Close);
                continue;
            }
            let (moved, fds) = (departure.moved().clone(), departure.fds().to_vec());
            successor.transfer(moved, fds, move || departure.gone());
        }
        // There may be more, for what comes back at once makes room for the next; but signals come first.
        cx.waker().wake_by_ref();
    }

    /// The successor has a connection that was passed on.
    pub(super) fn count_moved(&mut self) {
        self.counting.count_moved();
    }

    /// Takes or declines a connection that the predecessor passes on.
    pub(super) fn receive(&mut self, predecessor: &mut Taker, number: u64, moved: Moved, fds: Vec<OwnedFd>) {
        match self.data_path.admit(moved, fds) {
            // First the word, then the service: a connection of which the predecessor does not know that it is taken
            // would be served by both.
            Ok(serve) if predecessor.taken(number) => serve(),
            Ok(_) => {}
            Err(why) => predecessor.declined(number, &why),
        }
    }

    /// How many connections have ended.
    fn ended(&self) -> u64 {
        self.data_path.begun().saturating_sub(count(self.data_path.connections()))
    }

    /// Ends the workers; says if one had ended before by a mistake.
    pub(super) fn close(self) -> Result<(), String> {
        self.data_path.stop()
    }

    fn open_desk(&mut self, generation: u64, may_replace: &[u32]) -> Result<(), PathError> {
        let Some(path) = &self.settings.upgrade_socket else { return Ok(()) };
        if let Some(desk) = &mut self.desk {
            return desk.reclaim(path, may_replace);
        }
        let identity = Identity { build: self.settings.build.clone(), generation };
        let inventory = self.listeners.iter().map(|one| one.id.clone()).collect();
        let handoff = &self.settings.handoff;
        let bounds = Bounds { step_timeout: handoff.ready_timeout, max_draining: handoff.max_draining };
        self.desk = Some(Desk::open(path, may_replace, identity, inventory, bounds)?);
        Ok(())
    }

    fn write_pid_file(&mut self) -> Result<(), Cause> {
        let Some(path) = &self.settings.pid_file else { return Ok(()) };
        if self.pid_file.as_ref().is_none_or(|file| !file.is_ours()) {
            let file =
                PidFile::write(path).map_err(|error| Cause::new(Exit::CannotCreate, with_cause(&error)))?;
            self.pid_file = Some(file);
        }
        Ok(())
    }

    /// Binds the listeners that were given up, each at the address it had.
    fn bind_again(&mut self) {
        for (id, address) in std::mem::take(&mut self.given_up) {
            let mode = self.settings.listeners.iter().find(|spec| spec.id == id).and_then(|spec| spec.mode);
            let bound = Bound::bind(id.clone(), &address, mode).and_then(Bound::listen);
            let added = bound.map_err(|error| with_cause(&error)).and_then(|one| {
                self.data_path.add(vec![one.clone()]).map_err(|error| error.to_string())?;
                Ok(one)
            });
            match added {
                Ok(one) => {
                    let path = one.fresh_path().cloned();
                    self.paths.extend(path.map(|path| (id, Origin::Fresh, path)));
                    self.listeners.push(one);
                }
                Err(why) => tracing::error!(
                    target: "river::lifecycle",
                    %id, why, "a listener that the successor did not have cannot be taken back; it is not served until the next upgrade"
                ),
            }
        }
    }

    /// Takes over the paths of inherited Unix listeners, which their last owner has forgotten.
    fn claim_paths(&mut self) {
        for one in &self.listeners {
            let Address::Unix(path) = &one.address else { continue };
            // The service manager's path, and for it to remove.
            if one.is_foreign() {
                continue;
            }
            if self.paths.iter().any(|(id, ..)| *id == one.id) {
                continue;
            }
            let claimed = match one.file() {
                Some(file) => OwnedPath::claim(path, file),
                None => Err(PathError::Lost(path.clone())),
            };
            match claimed {
                Ok(owned) => {
                    let wanted = self.settings.listeners.iter().find(|spec| spec.id == one.id);
                    if let Some(wanted) =
                        wanted.and_then(|spec| spec.mode).filter(|mode| *mode != owned.mode())
                    {
                        tracing::warn!(
                            target: "river::lifecycle",
                            listener = %one.id, mode = format!("{:o}", owned.mode()), wanted = format!("{wanted:o}"),
                            "the listener keeps the mode it was made with until River starts cold, or chmod(1)"
                        );
                    }
                    self.paths.push((one.id.clone(), one.origin, owned));
                }
                Err(error) => {
                    let listener = &one.id;
                    tracing::warn!(
                        target: "river::lifecycle",
                        %error, %listener, "the listener's path is lost; nobody reaches it there until River starts cold"
                    );
                }
            }
        }
    }
}

impl<D: DataPath> World for Office<D> {
    type Sockets = Vec<Listening>;
    type Successor = Giver;
    type Incumbent = Taker;

    fn hold_listeners(&mut self, sockets: Vec<Listening>) {
        for one in &sockets {
            if let Some(path) = one.fresh_path() {
                self.paths.push((one.id.clone(), Origin::Fresh, path.clone()));
            }
        }
        self.listeners = sockets;
    }

    fn start_workers(&mut self) -> Result<(), Cause> {
        self.data_path.start(self.listeners.clone()).map_err(|error| {
            self.listeners.clear();
            Cause::new(Exit::Unavailable, format!("cannot start the workers: {error}"))
        })
    }

    fn stop_accepting(&mut self, unwanted: &[ListenerId]) {
        // The data path has to hold the last reference, so that its close is the end of the socket.
        for one in self.listeners.extract_if(.., |one| unwanted.contains(&one.id)) {
            self.given_up.push((one.id, one.address));
        }
        self.data_path.stop_accepting(unwanted);
        self.paths.retain(|(id, _, path)| {
            let keep = !unwanted.contains(id);
            if !keep {
                let _ = path.remove_if_ours();
            }
            keep
        });
    }

    fn resume_accepting(&mut self) {
        self.bind_again();
        self.data_path.resume_accepting();
    }

    fn close_listeners(&mut self) {
        self.listeners.clear();
        self.data_path.close_listeners();
    }

    fn move_out(&mut self, successor: &mut Giver) {
        if !self.settings.handoff.move_connections || !successor.can_move() {
            return self.drain();
        }
        self.counting.begin(self.ended());
        self.data_path.leave(Leave::Move);
    }

    fn drain(&mut self) {
        self.counting.begin(self.ended());
        self.data_path.leave(Leave::Close);
    }

    fn undrain(&mut self) {
        self.counting.end();
        self.data_path.leave(Leave::Stay);
    }

    fn close_connections(&mut self, what: Ending) -> usize {
        if what == Ending::All {
            self.counting.cut_the_rest(self.tally().finished);
        }
        let closed = self.data_path.close_connections(what);
        self.counting.count_cut(closed);
        closed
    }

    fn connections(&self) -> usize {
        self.data_path.connections()
    }

    fn announce(&mut self, tidings: &Tidings<'_>) {
        self.settings.herald.tell(tidings, self.data_path.connections());
    }

    fn tally(&self) -> DrainTally {
        self.counting.tally(self.data_path.begun(), count(self.data_path.connections()))
    }

    fn guards(&self) -> bool {
        !self.settings.handoff.guard.is_zero()
    }

    fn take_files(&mut self, generation: u64, incumbent: Option<&Taker>) -> Result<(), Cause> {
        let pid = incumbent.map(Taker::pid);
        self.open_desk(generation, pid.as_slice())
            .map_err(|error| Cause::new(Exit::CannotCreate, with_cause(&error)))?;
        fault_step("between-files");
        self.write_pid_file()?;
        self.claim_paths();
        fault_step("files-taken");
        Ok(())
    }

    fn restore_files(&mut self, generation: u64) {
        let heirs = self.heirs.clone();
        let desk = self.open_desk(generation, &heirs);
        if let Err(error) = &desk {
            let cause = with_cause(error);
            tracing::error!(target: "river::lifecycle", cause, "cannot restore the upgrade socket; the service goes on");
        }
        // Whoever is in service at the upgrade socket has the pidfile too.
        if matches!(desk, Err(PathError::InUse(_))) {
            return;
        }
        if let Err(cause) = self.write_pid_file() {
            tracing::error!(target: "river::lifecycle", %cause, "cannot restore the pidfile; the service goes on");
        }
        self.claim_paths();
    }

    fn another_serves(&self) -> bool {
        let path = self.settings.upgrade_socket.as_ref().filter(|_| self.desk.is_none());
        // A successor's successor may have become another user than this one.
        let user = |path| self.settings.account.as_ref().map(Account::uid).or_else(|| master_of(path));
        path.is_some_and(|path| is_in_service(path, user(path), &self.heirs))
    }

    fn heir(&self) -> Option<u32> {
        self.heirs.last().copied()
    }

    fn forget_files(&mut self) {
        fault_step("stopped-accepting");
        // The successor has replaced them by now, unless its configuration gives other paths: then nobody needs ours.
        let _ = self.pid_file.take().map(|file| file.remove_if_ours());
        let _ = self.desk.take().map(|desk| desk.remove_if_ours());
        self.paths.clear();
    }

    fn yield_files(&mut self) {
        self.pid_file = None;
        if let Some(desk) = self.desk.take() {
            desk.close("this instance steps down");
        }
        self.paths.retain(|(_, origin, _)| *origin == Origin::Fresh);
    }

    fn close_desk(&mut self) {
        if let Some(desk) = self.desk.take() {
            let _ = desk.remove_if_ours();
            desk.close("this instance ends and hands nothing over");
        }
    }

    fn remove_files(&mut self) {
        let mut results: Vec<std::io::Result<bool>> = Vec::new();
        results.extend(self.desk.take().map(|desk| desk.remove_if_ours()));
        results.extend(self.pid_file.take().map(|file| file.remove_if_ours()));
        results.extend(self.paths.drain(..).map(|(_, _, path)| path.remove_if_ours()));
        for error in results.into_iter().filter_map(Result::err) {
            tracing::warn!(target: "river::lifecycle", %error, "cannot remove a file");
        }
    }

    fn take_waiter(&mut self) -> Option<Giver> {
        self.desk.as_mut()?.take_waiter()
    }

    fn free_desk(&mut self) {
        if let Some(desk) = &mut self.desk {
            desk.free();
        }
    }

    fn offer(&mut self, successor: &mut Giver) {
        successor.offer(&self.listeners, |id| self.certificates.ticket_keys(id));
    }

    fn commit(&mut self, successor: &mut Giver) {
        // Few of them are not forgotten when they have ended; the oldest is one of those.
        if self.heirs.len() >= MAX_HEIRS {
            self.heirs.remove(0);
        }
        self.heirs.push(successor.pid());
        successor.commit();
    }

    fn refuse_successor(&mut self, mut successor: Giver, why: &str) {
        successor.refuse(why);
        self.free_desk();
    }

    fn forget_heir(&mut self, successor: &Giver) {
        // Should it have left a socket at the path, nobody accepts there.
        if let Some(at) = self.heirs.iter().position(|heir| *heir == successor.pid()) {
            self.heirs.remove(at);
        }
    }

    fn dismiss_successor(&mut self, successor: &mut Giver, why: &str) {
        successor.dismiss(why);
    }

    fn say_drained(&mut self, successor: &mut Giver) {
        for _ in 0..successor.drained() {
            self.counting.count_moved();
        }
    }

    fn say_ready(&mut self, incumbent: &mut Taker) {
        incumbent.ready();
    }

    fn say_owned(&mut self, incumbent: &mut Taker) {
        incumbent.owned();
    }

    fn refuse_incumbent(&mut self, incumbent: &mut Taker, why: &str) {
        incumbent.refuse(why);
    }

    fn say_released(&mut self, predecessor: &mut Taker) {
        predecessor.released();
    }
}
