//! HTTP/2 towards servers: shared connections, and streams on them that look like connections in HTTP/1.1.

mod connection;
mod driver;
mod ending;
mod receiving;
mod request;
mod response;
mod sending;
mod settings;
mod stream;
mod watched;

pub use connection::{Client, ConnectionId, Unsettled};
pub use ending::Ending;
pub use request::{Unsendable, request, websocket, websocket_key};
pub use response::{Body, response, trailers};
pub use settings::ClientSettings;
pub use stream::ClientStream;
pub use watched::First;
