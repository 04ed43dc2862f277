//! What one turn of a session brings, and where that goes: plaintext to the reader, records behind those that wait to be sent.

use std::io::IoSlice;

use rustls::Error;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};

use crate::runtime::{Buffer, Buffers, LARGE_BUFFER, SMALL_BUFFER};

/// The most plaintext in one record (RFC 8446 §5.1).
const RECORD: usize = 16 << 10;

/// More than a record takes beside its plaintext: a header, a nonce (TLS 1.2), the content's type (TLS 1.3), a tag.
const OVERHEAD: usize = 32;

/// How much plaintext is encrypted at a time. With what the records take beside it, it fits a large buffer.
const BATCH: usize = LARGE_BUFFER - (4 << 10);

/// Slices shorter than this are copied together before they are encrypted, so that a head and its body are one record.
const GATHERED: usize = 4 << 10;

/// What a handshake may queue at a time: rustls takes no message above 64 KiB, so no chain of certificates either.
const MOST_OUTGOING: usize = 4 * LARGE_BUFFER;

/// Where a turn puts what it brings.
pub(super) struct Outlet<'a> {
    pub(super) outgoing: &'a mut Buffer,
    pub(super) plain: &'a mut Buffer,
    pub(super) buffers: &'a Buffers,
    /// The reader's space.
    pub(super) space: &'a mut [u8],
    /// How much of it is filled.
    pub(super) filled: usize,
    /// What is to be encrypted once that is possible.
    pub(super) sealing: Option<Sealing<'a>>,
}

/// What is to be encrypted.
#[derive(Clone, Copy)]
pub(super) enum Sealing<'a> {
    /// Some of this, `most` bytes of it at most.
    Data { slices: &'a [IoSlice<'a>], most: usize },
    /// The close_notify.
    End,
}

/// What one step of a session came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There may be more to do.
    Going,
    /// More has to be received.
    Starved,
    /// The peer has ended its direction in order.
    Ended,
    /// So many bytes were encrypted.
    Sealed(usize),
}

impl Outlet<'_> {
    /// Does what rustls asks for; with it, how much of what was received is done with.
    pub(super) fn take<D>(&mut self, status: UnbufferedStatus<'_, '_, D>) -> (usize, Result<Turn, Error>) {
        let UnbufferedStatus { mut discard, state } = status;
        let turn = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    None => break Ok(Turn::Going),
                    Some(Err(error)) => break Err(error),
                    Some(Ok(record)) => {
                        discard += record.discard;
                        if let Err(error) = self.give(record.payload) {
                            break Err(error);
                        }
                    }
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut data)) => loop {
                match data.encode(self.outgoing.space_mut()) {
                    Ok(count) => {
                        self.outgoing.filled(count);
                        break Ok(Turn::Going);
                    }
                    Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        if !make_room(self.outgoing, required_size) {
                            break Err(Error::General("a handshake has more to say than is sent".into()));
                        }
                    }
                    Err(error) => break Err(Error::General(error.to_string())),
                }
            },
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Turn::Going)
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => match self.sealing {
                Some(sealing) => self.seal(sealing, traffic).map(Turn::Sealed),
                None => Ok(Turn::Starved),
            },
            Ok(ConnectionState::PeerClosed) => Ok(Turn::Ended),
            Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Turn::Starved),
            // Early data is never accepted, and no other state is known.
            Ok(_) => Err(Error::General("the session is in a state that is not known".into())),
            Err(error) => Err(error),
        };
        (discard, turn)
    }

    /// Hands plaintext on: to the reader what it has space for.
    fn give(&mut self, payload: &[u8]) -> Result<(), Error> {
        let space = self.space.get_mut(self.filled..).unwrap_or_default();
        let count = if self.plain.is_empty() { payload.len().min(space.len()) } else { 0 };
        let (now, later) = payload.split_at_checked(count).unwrap_or((&[], payload));
        if let Some(space) = space.get_mut(..count) {
            space.copy_from_slice(now);
        }
        self.filled += count;
        if later.is_empty() {
            return Ok(());
        }
        if make_room(self.plain, later.len()) && self.plain.append(later) == later.len() {
            return Ok(());
        }
        Err(Error::General("what was received is more than it can be".into()))
    }

    fn seal<D>(&mut self, sealing: Sealing<'_>, mut traffic: WriteTraffic<'_, D>) -> Result<usize, Error> {
        let (slices, most) = match sealing {
            Sealing::Data { slices, most } => (slices, most.min(BATCH)),
            Sealing::End => {
                make_room(self.outgoing, GATHERED);
                let sealed = traffic.queue_close_notify(self.outgoing.space_mut());
                self.outgoing.filled(sealed.map_err(worn_out)?);
                return Ok(0);
            }
        };
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        let most = most.min(all);
        if !make_room(self.outgoing, most + (most / GATHERED + slices.len().min(8) + 2) * OVERHEAD) {
            return Err(Error::General("too much waits to be sent".into()));
        }
        if let [slice] = slices {
            return self.seal_one(slice.get(..most).unwrap_or(slice), &mut traffic);
        }
        let mut gathered = self.buffers.empty();
        let mut sealed = 0;
        for slice in slices {
            let mut rest = slice.get(..slice.len().min(most - sealed - gathered.len())).unwrap_or(slice);
            while !rest.is_empty() {
                if gathered.is_empty() && rest.len() >= GATHERED {
                    sealed += self.seal_one(rest, &mut traffic)?;
                    break;
                }
                let part = rest.len().min(RECORD - gathered.len());
                let (now, later) = rest.split_at_checked(part).unwrap_or((rest, &[]));
                let all = part.max(most.min(RECORD) - gathered.len());
                make_room(&mut gathered, all);
                gathered.append(now);
                rest = later;
                if gathered.len() == RECORD {
                    sealed += self.seal_one(gathered.unread(), &mut traffic)?;
                    gathered.clear();
                }
            }
        }
        if !gathered.is_empty() {
            sealed += self.seal_one(gathered.unread(), &mut traffic)?;
        }
        Ok(sealed)
    }

    fn seal_one<D>(&mut self, data: &[u8], traffic: &mut WriteTraffic<'_, D>) -> Result<usize, Error> {
        loop {
            match traffic.encrypt(data, self.outgoing.space_mut()) {
                Ok(count) => {
                    self.outgoing.filled(count);
                    return Ok(data.len());
                }
                // What rustls has queued itself, a key update for one, goes first and was not counted.
                Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size }))
                    if make_room(self.outgoing, required_size) => {}
                Err(error) => return Err(worn_out(error)),
            }
        }
    }
}

/// Makes `buffer` have space for `count` bytes more; false where that would be too much.
fn make_room(buffer: &mut Buffer, count: usize) -> bool {
    if buffer.is_empty() && count > SMALL_BUFFER {
        buffer.widen();
    } else {
        buffer.supply();
    }
    while buffer.space_mut().len() < count {
        if !buffer.grow(MOST_OUTGOING) {
            return false;
        }
    }
    true
}

fn worn_out(error: EncryptError) -> Error {
    Error::General(error.to_string())
}
