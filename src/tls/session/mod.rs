//! One TLS session between bytes that come and bytes that go, without a socket.
//!
//! It is built on rustls's unbuffered interface: records are received into a buffer of the worker's, decrypted where they
//! lie, and encrypted into another one. The buffers are given back whenever they are empty.

mod outlet;

use std::fmt;
use std::io::IoSlice;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, Error};

use self::outlet::{Outlet, Sealing, Turn};
use crate::runtime::{Buffer, Buffers, SMALL_BUFFER};

/// The length of a record's header.
const HEADER: usize = 5;

/// One session, after the handshake or in it.
pub(super) struct Session {
    peer: Peer,
    buffers: Buffers,
    /// Received and not yet decrypted; begins with a record.
    incoming: Buffer,
    /// To be sent.
    pub(super) outgoing: Buffer,
    /// Decrypted, and more than the reader had space for. Nothing is received before it is empty, so it is never more
    /// than what one receive brought.
    plain: Buffer,
    /// What was received brings nothing more before more is received.
    starved: bool,
    /// The last receive filled a small buffer.
    wide: bool,
    /// The peer has sent its close_notify.
    ended: bool,
    /// What the session failed with.
    failure: Option<Error>,
}

/// rustls's half of a session.
enum Peer {
    /// River is the client.
    Server(Box<UnbufferedClientConnection>),
    /// River is the server.
    Client(Box<UnbufferedServerConnection>),
}

impl Session {
    /// River is the server; `incoming` is what the client has said so far.
    pub(super) fn server(
        connection: UnbufferedServerConnection,
        buffers: &Buffers,
        incoming: Buffer,
    ) -> Self {
        Self::new(Peer::Client(Box::new(connection)), buffers, incoming)
    }

    /// River is the client.
    pub(super) fn client(connection: UnbufferedClientConnection, buffers: &Buffers) -> Self {
        Self::new(Peer::Server(Box::new(connection)), buffers, buffers.empty())
    }

    fn new(peer: Peer, buffers: &Buffers, incoming: Buffer) -> Self {
        Self {
            peer,
            buffers: buffers.clone(),
            incoming,
            outgoing: buffers.empty(),
            plain: buffers.empty(),
            starved: false,
            wide: false,
            ended: false,
            failure: None,
        }
    }

    /// What rustls knows of the session.
    pub(super) fn common(&self) -> &CommonState {
        match &self.peer {
            Peer::Server(connection) => connection,
            Peer::Client(connection) => connection,
        }
    }

    /// River is the client.
    pub(super) fn is_client(&self) -> bool {
        matches!(self.peer, Peer::Server(_))
    }

    /// The peer's own certificate, if it has shown one.
    pub(super) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.common().peer_certificates()?.first()
    }

    /// The peer has ended its direction in order, and all that it said before was read.
    pub(super) fn has_ended(&self) -> bool {
        self.ended && self.plain.is_empty()
    }

    /// The peer has sent something that was not read: data, a part of a record, its end, or nonsense.
    pub(super) fn has_news(&self) -> bool {
        self.ended || self.failure.is_some() || !self.plain.is_empty() || !self.incoming.is_empty()
    }

    /// Nothing can be read without receiving more.
    pub(super) fn is_starved(&self) -> bool {
        self.starved && self.plain.is_empty() && !self.ended && self.failure.is_none()
    }

    /// Where to receive into. Right only while the session [is starved](Self::is_starved), or new.
    ///
    /// # Errors
    ///
    /// What is there is one message, and longer than any that is taken.
    pub(super) fn space(&mut self) -> Result<&mut [u8], Error> {
        if self.wide || whole_record(self.incoming.unread()) > SMALL_BUFFER {
            self.incoming.widen();
        } else {
            self.incoming.supply();
        }
        if self.incoming.is_full() {
            self.incoming.widen();
        }
        if self.incoming.is_full() {
            return Err(self.fail(Error::PeerSentOversizedRecord));
        }
        Ok(self.incoming.space_mut())
    }

    /// Says that `count` bytes were received into [`space`](Self::space).
    pub(super) fn filled(&mut self, count: usize) {
        self.wide = if self.wide { count > SMALL_BUFFER } else { count == self.incoming.space_mut().len() };
        self.incoming.filled(count);
        self.starved = false;
    }

    /// Gives memory back that holds nothing.
    pub(super) fn shed(&mut self) {
        for buffer in [&mut self.incoming, &mut self.outgoing, &mut self.plain] {
            if buffer.is_empty() {
                buffer.shed();
            }
        }
    }

    /// How many bytes its buffers take.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        [&self.incoming, &self.outgoing, &self.plain].iter().map(|buffer| buffer.capacity()).sum()
    }

    /// Goes on with the handshake; true once it is over. What has come behind it waits.
    ///
    /// # Errors
    ///
    /// What is wrong with it. What the peer is to be told of that is `outgoing` then.
    pub(super) fn shake(&mut self) -> Result<bool, Error> {
        while self.common().is_handshaking() && !self.starved {
            self.turn(&mut [], None)?;
        }
        Ok(!self.common().is_handshaking())
    }

    /// Fills `space` from its start with what was received, and returns how many bytes that was. Where there is less, the
    /// session is starved, or has [ended](Self::has_ended).
    ///
    /// # Errors
    ///
    /// What is wrong with what was received; not before all that came before it was read.
    pub(super) fn read(&mut self, space: &mut [u8]) -> Result<usize, Error> {
        let mut filled = self.plain.unread().len().min(space.len());
        if let (Some(to), Some(from)) = (space.get_mut(..filled), self.plain.unread().get(..filled)) {
            to.copy_from_slice(from);
            self.plain.consume(filled);
        }
        while self.plain.is_empty() && !self.starved && !self.ended && filled < space.len() {
            match self.turn(space.get_mut(filled..).unwrap_or_default(), None) {
                Ok((_, count)) => filled += count,
                // It fails with this again the next time.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        self.shed();
        Ok(filled)
    }

    /// Takes in what was received: data is kept for the reader, and what is for the session alone is done with.
    pub(super) fn absorb(&mut self) {
        while !self.starved && !self.ended && self.turn(&mut [], None).is_ok() {}
        self.shed();
    }

    /// Encrypts some of `slices` from their start, behind what is `outgoing`, and returns how many bytes that was: `most`
    /// at most, and at least 1 unless there are none.
    ///
    /// # Errors
    ///
    /// What the session failed with before, or what is wrong with what was received.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], most: usize) -> Result<usize, Error> {
        self.seal(Sealing::Data { slices, most })
    }

    /// Encrypts the close_notify, once, behind what is `outgoing`.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub(super) fn end(&mut self) -> Result<(), Error> {
        self.seal(Sealing::End).map(drop)
    }

    fn seal(&mut self, sealing: Sealing<'_>) -> Result<usize, Error> {
        loop {
            match self.turn(&mut [], Some(sealing))?.0 {
                Turn::Sealed(count) => return Ok(count),
                Turn::Going | Turn::Ended => {}
                Turn::Starved => return Err(Error::HandshakeNotComplete),
            }
        }
    }

    /// One step; with it, how many bytes of `space` were filled.
    fn turn(&mut self, space: &mut [u8], sealing: Option<Sealing<'_>>) -> Result<(Turn, usize), Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mut outlet = Outlet {
            outgoing: &mut self.outgoing,
            plain: &mut self.plain,
            buffers: &self.buffers,
            space,
            filled: 0,
            sealing,
        };
        let incoming = self.incoming.unread_mut();
        let (discard, turn) = match &mut self.peer {
            Peer::Server(connection) => outlet.take(connection.process_tls_records(incoming)),
            Peer::Client(connection) => outlet.take(connection.process_tls_records(incoming)),
        };
        let filled = outlet.filled;
        self.incoming.consume(discard);
        match turn {
            // Nothing is left that could bring anything: the turn that would find that out is saved.
            Ok(Turn::Going) if filled > 0 && self.incoming.is_empty() && !self.common().wants_write() => {
                self.starved = true;
            }
            Ok(Turn::Going) => {}
            Ok(Turn::Starved | Turn::Sealed(_)) => self.starved = true,
            Ok(Turn::Ended) => {
                self.ended = true;
                // What follows is to be ignored (RFC 8446 §6.1).
                self.incoming.clear();
            }
            Err(error) => return Err(self.fail(error)),
        }
        Ok((turn?, filled))
    }

    /// The session has failed. What the peer is to be told of it is `outgoing` then.
    fn fail(&mut self, error: Error) -> Error {
        // rustls hands the alert out before it repeats its error.
        while self.common().wants_write() {
            let mut outlet = Outlet {
                outgoing: &mut self.outgoing,
                plain: &mut self.plain,
                buffers: &self.buffers,
                space: &mut [],
                filled: 0,
                sealing: None,
            };
            let incoming = self.incoming.unread_mut();
            let (_, turn) = match &mut self.peer {
                Peer::Server(connection) => outlet.take(connection.process_tls_records(incoming)),
                Peer::Client(connection) => outlet.take(connection.process_tls_records(incoming)),
            };
            if turn.is_err() {
                break;
            }
        }
        self.incoming.clear();
        // Readers are to hear of it.
        self.starved = false;
        self.failure = Some(error.clone());
        error
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("client", &self.is_client())
            .field("version", &self.common().protocol_version())
            .field("incoming", &self.incoming)
            .field("outgoing", &self.outgoing)
            .field("plain", &self.plain)
            .field("starved", &self.starved)
            .field("ended", &self.ended)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// How long the record is that `bytes` begin with; 0 if they do not say.
fn whole_record(bytes: &[u8]) -> usize {
    match *bytes {
        [_, _, _, high, low, ..] => HEADER + usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    }
}
