//! Sockets, descriptor passing, credentials, pidfile, signals: what River asks of the kernel outside the data path.

mod account;
mod activation;
mod connected;
mod end;
mod limits;
mod notify;
mod offspring;
mod owned_path;
mod passing;
mod peer;
mod pidfile;
mod readiness;
mod signals;
mod small_file;
mod socket;
mod terminal;
mod verify;

pub use account::{Account, AccountError, BecomeError};
pub use activation::Activation;
pub use connected::{Connected, NotConnected};
pub use end::{ask_another_to_end, ask_to_end, end_another, tell};
#[cfg(debug_assertions)]
pub use end::{kill_self, stop_self};
pub use limits::raise_descriptor_limit;
pub use notify::Manager;
pub use offspring::{End, News, Offspring};
pub use owned_path::{OwnedPath, PathError, StagedPath};
pub use passing::{MAX_DESCRIPTORS, Received, receive, send, stop_receiving};
pub use peer::{Peer, PeerError, has_ended, master_of, owner_for_root};
pub use pidfile::{PidFile, PidFileError};
pub use readiness::{Readiness, Report, Reporter, VARIABLE as READINESS_VARIABLE};
pub use signals::{Signal, Signals};
pub use small_file::{FileStamp, SmallFile, SmallFileError};
pub use socket::{BindError, Bound, Listening, Origin};
pub use terminal::columns;
pub use verify::{Inherited, Mismatch};
