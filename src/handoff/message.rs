//! The messages of a hand-over and their form on the wire.
//!
//! One message is one datagram of at most [`MAX_FRAME`] bytes: `river-handoff/1`, a line feed, and the message as RON.
//! The number is that of this form, which all versions of the protocol share; which version is spoken is agreed on in
//! `Hello` and `Welcome`. `Hello` and `Refuse` keep the form of version 1 for ever, so that instances without a common
//! version can still say so.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{InstanceReport, Label, ListenerId, Moved};
use crate::tls::TicketKeys;

/// The protocol versions this build speaks, the best one first.
///
/// Version 2 added the messages that move connections, those by which a successor says that it waits, and the keys of
/// session tickets with the offer.
pub const PROTOCOL_VERSIONS: &[u32] = &[2, 1];

/// The first version in which connections move.
pub const MOVING_VERSION: u32 = 2;

/// The first version in which a successor says that it waits.
pub const WAITING_VERSION: u32 = 2;

/// The first version in which the keys of session tickets come with the offer.
pub const TICKETS_VERSION: u32 = 2;

/// The longest message on the wire, in bytes.
pub const MAX_FRAME: usize = 128 * 1024;

const MAGIC: &str = "river-handoff/1\n";

/// What the two instances say to each other; the arrows give the direction (S successor, I incumbent).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Message {
    /// S → I: who waits, and which versions it speaks.
    Hello {
        /// Protocol versions, the preferred one first.
        versions: Vec<u32>,
        /// The successor's process id, for logs; what is trusted is `SO_PEERCRED`.
        pid: u32,
        /// The successor's build.
        build: String,
    },
    /// I → S: it may wait.
    Welcome {
        /// The protocol version from here on.
        version: u32,
        /// The incumbent's process id, for logs and for the operator.
        pid: u32,
        /// The incumbent's build.
        build: String,
        /// The incumbent's generation; the successor's is one more.
        generation: u64,
    },
    /// I → S: the listeners that will be offered.
    Inventory {
        /// Their identities.
        ids: Vec<ListenerId>,
        /// Whether another `Inventory` follows.
        more: bool,
    },
    /// S → I, from version 2 on: what is new is bound; it waits. Until then it cannot be handed over to. Also the answer
    /// to `Probe`.
    Waiting,
    /// I → S, from version 2 on: somebody else wants to wait. Say again that you do, for a place that nobody holds is
    /// given away.
    Probe,
    /// Either way: this hand-over will not be. The incumbent is the one that serves, unless it says [`Ending`](Self::Ending).
    Refuse {
        /// Why, as a sentence for the operator.
        why: String,
    },
    /// I → S: this hand-over will not be, because the incumbent ends. It serves no longer.
    Ending {
        /// Why, as a sentence for the operator.
        why: String,
    },
    /// I → S: one batch of listeners, whose descriptors come with it in the same order.
    Offer {
        /// The number of this batch, from 0.
        batch: u32,
        /// How many batches there are.
        of: u32,
        /// What each descriptor is said to be.
        labels: Vec<Label>,
        /// From version 2 on: the keys of session tickets of those of the batch that have some.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tickets: Vec<(ListenerId, TicketKeys)>,
    },
    /// S → I: the batch was checked.
    Adopted {
        /// The number of the batch.
        batch: u32,
        /// Those of the batch that the successor's configuration does not have.
        unwanted: Vec<ListenerId>,
    },
    /// S → I: everything listens and the workers accept.
    Ready,
    /// I → S: take the service over.
    Commit,
    /// S → I: taken; pidfile and upgrade socket are the successor's.
    Owned,
    /// I → S: the incumbent ends, nothing is left of it.
    Drained,
    /// S → I: the successor ends on purpose; do not take the listeners back.
    Released,
    /// I → S, from version 2 on: a connection, whose sockets come with it. The incumbent keeps them until the answer.
    Transfer {
        /// The number of the transfer, from 0.
        number: u64,
        /// What the successor has to know of it.
        moved: Moved,
    },
    /// S → I: the connection is the successor's now.
    Taken {
        /// The number of the transfer.
        number: u64,
    },
    /// S → I: the connection stays where it is.
    Declined {
        /// The number of the transfer.
        number: u64,
        /// Why, as a sentence for the log.
        why: String,
    },
    /// Anyone → the instance in service, in place of `Hello`: what instances are there?
    Ask {
        /// Whether to answer again at every change, until the connection ends.
        watch: bool,
        /// Whether the first answer is to bring the instance's standard output and standard error.
        streams: bool,
    },
    /// The answer to `Ask`: the instance in service first, then the one that is to take over, then those that drain, the
    /// youngest first, then those that have ended lately.
    Instances(Vec<InstanceReport>),
    /// A draining instance → the instance in service, in place of `Hello`, and again at changes: how it fares.
    Draining(InstanceReport),
    /// The instance in service → a draining one: end now.
    End {
        /// Why, as a sentence for the log.
        why: String,
    },
}

/// Why a message cannot be sent or understood.
#[derive(Debug)]
pub enum MessageError {
    /// The datagram does not begin as River's do, or is of a form this build does not know.
    Foreign,
    /// It is not a message of this version.
    Malformed(ron::error::SpannedError),
    /// A value has no form on the wire, such as a path that is not UTF-8.
    Unwritable(ron::Error),
    /// It is longer than [`MAX_FRAME`].
    TooLong(usize),
}

impl Message {
    /// The message as one datagram.
    ///
    /// # Errors
    /// When it is too long or holds a value that cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let body = ron::to_string(self).map_err(MessageError::Unwritable)?;
        let frame = [MAGIC.as_bytes(), body.as_bytes()].concat();
        if frame.len() > MAX_FRAME {
            return Err(MessageError::TooLong(frame.len()));
        }
        Ok(frame)
    }

    /// The message in a datagram. Anything unknown is an error.
    ///
    /// # Errors
    /// [`MessageError`] for whatever is not exactly one message.
    pub fn decode(frame: &[u8]) -> Result<Self, MessageError> {
        if frame.len() > MAX_FRAME {
            return Err(MessageError::TooLong(frame.len()));
        }
        let body = frame.strip_prefix(MAGIC.as_bytes()).ok_or(MessageError::Foreign)?;
        ron::de::from_bytes(body).map_err(MessageError::Malformed)
    }

    /// The message's name, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Welcome { .. } => "Welcome",
            Self::Inventory { .. } => "Inventory",
            Self::Waiting => "Waiting",
            Self::Probe => "Probe",
            Self::Refuse { .. } => "Refuse",
            Self::Ending { .. } => "Ending",
            Self::Offer { .. } => "Offer",
            Self::Adopted { .. } => "Adopted",
            Self::Ready => "Ready",
            Self::Commit => "Commit",
            Self::Owned => "Owned",
            Self::Drained => "Drained",
            Self::Released => "Released",
            Self::Transfer { .. } => "Transfer",
            Self::Taken { .. } => "Taken",
            Self::Declined { .. } => "Declined",
            Self::Ask { .. } => "Ask",
            Self::Instances(_) => "Instances",
            Self::Draining(_) => "Draining",
            Self::End { .. } => "End",
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("the message is not of a form that this build knows"),
            Self::Malformed(_) => f.write_str("the message cannot be understood"),
            Self::Unwritable(_) => f.write_str("the message cannot be written"),
            Self::TooLong(length) => {
                write!(f, "the message has {length} bytes, but {MAX_FRAME} are the most")
            }
        }
    }
}

impl std::error::Error for MessageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(cause) => Some(cause),
            Self::Unwritable(cause) => Some(cause),
            Self::Foreign | Self::TooLong(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Address, FileId, Held, InstanceState, MAX_HELD, MovedState, MovedTunnel};
    use crate::tls::{TicketSettings, Tickets};
    use proptest::prelude::*;

    fn ids() -> impl Strategy<Value = Vec<ListenerId>> {
        proptest::collection::vec(
            (any::<std::net::SocketAddr>(), ".{0,12}", 0_usize..9)
                .prop_map(|(address, service, nth)| ListenerId::ephemeral(&address.into(), &service, nth)),
            0..5,
        )
    }

    fn labels() -> impl Strategy<Value = Vec<Label>> {
        let address = prop_oneof![
            any::<std::net::SocketAddrV4>().prop_map(|v4| Address::Tcp(v4.into())),
            "/[a-z \"\\\\é]{1,20}".prop_map(|path| Address::Unix(path.into())),
        ];
        let file = proptest::option::of(Just(FileId::of(&std::fs::metadata("/").unwrap())));
        let label = (address, file).prop_map(|(address, file)| Label {
            id: ListenerId::fixed(&address),
            address,
            file,
        });
        proptest::collection::vec(label, 0..5)
    }

    fn tickets() -> impl Strategy<Value = Vec<(ListenerId, TicketKeys)>> {
        (ids(), any::<u32>()).prop_map(|(ids, since)| {
            let tickets = TicketSettings::default();
            let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(since.into());
            ids.into_iter().map(|id| (id, Tickets::new(&tickets, now).keys().unwrap())).collect()
        })
    }

    fn a_move() -> impl Strategy<Value = Moved> {
        let held = || {
            (proptest::collection::vec(any::<u8>(), 0..40), any::<bool>())
                .prop_map(|(bytes, ended)| Held { bytes, ended })
        };
        let tunnel = (any::<String>(), any::<String>(), held(), held()).prop_map(
            |(server, request, to_server, to_client)| {
                MovedState::Tunnel(MovedTunnel { server, request, to_server, to_client })
            },
        );
        let state = prop_oneof![Just(MovedState::Idle), tunnel];
        let listener = any::<std::net::SocketAddr>().prop_map(|address| ListenerId::fixed(&address.into()));
        let peer = any::<Option<std::net::SocketAddr>>().prop_map(|peer| {
            peer.map(|mut peer| {
                // A flow label is no part of an address's text.
                if let std::net::SocketAddr::V6(v6) = &mut peer {
                    v6.set_flowinfo(0);
                }
                peer
            })
        });
        (listener, peer, any::<u64>(), state, any::<Option<u64>>()).prop_map(
            |(listener, peer, requests, state, spare)| Moved { listener, peer, requests, state, spare },
        )
    }

    fn reports() -> impl Strategy<Value = InstanceReport> {
        let states = vec![
            InstanceState::AwaitingHandoff,
            InstanceState::Serving,
            InstanceState::Handing,
            InstanceState::Draining,
            InstanceState::Exited,
        ];
        let counts = any::<[u64; 7]>();
        let clocks = any::<[Option<u64>; 2]>();
        (any::<u32>(), ".{0,20}", proptest::sample::select(states), counts, clocks).prop_map(
            |(
                pid,
                build,
                state,
                [generation, age_ms, connections, tunnels, moved, finished, cut],
                [deadline_ms, guard_ms],
            )| {
                InstanceReport {
                    pid,
                    generation,
                    build,
                    state,
                    age_ms,
                    connections,
                    tunnels,
                    moved,
                    finished,
                    cut,
                    deadline_ms,
                    guard_ms,
                }
            },
        )
    }

    fn messages() -> impl Strategy<Value = Message> {
        prop_oneof![
            (proptest::collection::vec(any::<u32>(), 0..4), any::<u32>(), any::<String>())
                .prop_map(|(versions, pid, build)| Message::Hello { versions, pid, build }),
            (any::<u32>(), any::<u32>(), any::<String>(), any::<u64>()).prop_map(
                |(version, pid, build, generation)| Message::Welcome { version, pid, build, generation }
            ),
            (ids(), any::<bool>()).prop_map(|(ids, more)| Message::Inventory { ids, more }),
            any::<String>().prop_map(|why| Message::Refuse { why }),
            any::<String>().prop_map(|why| Message::Ending { why }),
            (any::<u32>(), any::<u32>(), labels(), tickets())
                .prop_map(|(batch, of, labels, tickets)| { Message::Offer { batch, of, labels, tickets } }),
            (any::<u32>(), ids()).prop_map(|(batch, unwanted)| Message::Adopted { batch, unwanted }),
            proptest::sample::select(vec![
                Message::Waiting,
                Message::Probe,
                Message::Ready,
                Message::Commit,
                Message::Owned,
                Message::Drained,
                Message::Released,
            ]),
            (any::<u64>(), a_move()).prop_map(|(number, moved)| Message::Transfer { number, moved }),
            any::<u64>().prop_map(|number| Message::Taken { number }),
            (any::<u64>(), any::<String>()).prop_map(|(number, why)| Message::Declined { number, why }),
            any::<[bool; 2]>().prop_map(|[watch, streams]| Message::Ask { watch, streams }),
            proptest::collection::vec(reports(), 0..4).prop_map(Message::Instances),
            reports().prop_map(Message::Draining),
            any::<String>().prop_map(|why| Message::End { why }),
        ]
    }

    proptest! {
        #[test]
        fn every_message_survives_the_wire(message in messages()) {
            let frame = message.encode().unwrap();
            prop_assert_eq!(Message::decode(&frame).unwrap(), message);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&bytes);
            let _ = Message::decode(&[MAGIC.as_bytes(), &bytes].concat());
        }

        #[test]
        fn a_damaged_message_does_not_panic(message in messages(), at in any::<usize>(), byte in any::<u8>()) {
            let mut frame = message.encode().unwrap();
            let length = frame.len();
            frame[at % length] = byte;
            let _ = Message::decode(&frame);
            frame.truncate(at % length);
            prop_assert!(Message::decode(&frame).is_err());
        }
    }

    #[test]
    fn unknown_fields_variants_and_versions_are_errors() {
        let decode = |body: &str| Message::decode(format!("{MAGIC}{body}").as_bytes());
        assert!(decode("Ready").is_ok());
        assert!(decode("Ready Ready").is_err());
        assert!(decode("Steady").is_err());
        assert!(decode("Refuse(why:\"x\",when:1)").is_err());
        assert!(matches!(Message::decode(b"river-handoff/2\nReady"), Err(MessageError::Foreign)));
        assert!(matches!(Message::decode(&vec![0; MAX_FRAME + 1]), Err(MessageError::TooLong(_))));
    }

    #[test]
    fn a_tunnel_that_holds_all_it_may_fits_a_message() {
        let held = || Held { bytes: vec![0xff; MAX_HELD], ended: true };
        let line = "x".repeat(8 << 10);
        let tunnel = MovedTunnel {
            server: "example.com:443".into(),
            request: line,
            to_server: held(),
            to_client: held(),
        };
        let listener = ListenerId::fixed(&Address::Unix("/x".repeat(50).into()));
        let moved = Moved {
            listener,
            peer: None,
            requests: u64::MAX,
            state: MovedState::Tunnel(tunnel),
            spare: None,
        };
        let message = Message::Transfer { number: u64::MAX, moved };
        assert_eq!(Message::decode(&message.encode().unwrap()).unwrap(), message);
    }

    #[test]
    fn hello_keeps_its_form() {
        let hello = Message::Hello { versions: vec![1], pid: 7, build: "river 0.1.0".into() };
        let frame = hello.encode().unwrap();
        let text = "river-handoff/1\nHello(versions:[1],pid:7,build:\"river 0.1.0\")";
        assert_eq!(String::from_utf8(frame).unwrap(), text);
    }
}
