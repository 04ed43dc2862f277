//! Sockets, descriptor passing, credentials, pidfile, signals: what River asks of the kernel outside the data path.

mod connected;
mod end;
mod limits;
mod owned_path;
mod passing;
mod peer;
mod pidfile;
mod signals;
mod socket;
mod verify;

pub use connected::{Connected, NotConnected};
pub use end::ask_to_end;
pub use limits::raise_descriptor_limit;
pub use owned_path::{OwnedPath, PathError, StagedPath};
pub use passing::{MAX_DESCRIPTORS, Received, receive, send, stop_receiving};
pub use peer::{Peer, PeerError};
pub use pidfile::{PidFile, PidFileError};
pub use signals::{Signal, Signals};
pub use socket::{BindError, Bound, Listening, Origin};
pub use verify::{Inherited, Mismatch};
