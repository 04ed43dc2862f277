//! HTTP/2 towards servers: shared connections, and streams on them that look like connections in HTTP/1.1.

mod connection;
mod driver;
mod receiving;
mod request;
mod response;
mod sending;
mod settings;
mod settings_frame;
mod stream;

pub use connection::{Client, ConnectionId};
pub use request::{Unsendable, request, websocket, websocket_key};
pub use response::{Body, response, trailers};
pub use settings::ClientSettings;
pub use stream::ClientStream;
