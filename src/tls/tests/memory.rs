//! What a connection holds while nothing is on its way.

use std::mem::size_of;
use std::sync::Arc;

use super::*;
use crate::tls::session::Session;

#[test]
fn an_idle_connection_holds_no_buffers() {
    let signed = Arc::new(signed("river.test"));
    run(async |handle: Handle| {
        let acceptor = Acceptor::new(Arc::new(signed.server(BOTH)));
        let (stream, far) = serve(&handle, &acceptor, move |socket| {
            use std::io::{Read, Write};
            let mut client = signed.blocking(socket, &rustls::version::TLS13);
            client.write_all(&noise(100_000)).unwrap();
            client.flush().unwrap();
            client.read_exact(&mut [0; 50_000]).unwrap();
            client
        })
        .await;
        let mut buf = vec![0; 100_000];
        let mut filled = 0;
        while filled < buf.len() {
            filled += read(&stream, &mut buf[filled..]).await.unwrap();
        }
        write_all(&stream, &buf[..50_000]).await.unwrap();
        let _client = far.await;
        assert!(!stream.is_stale());
        assert_eq!(stream.held(), 0);
    });
    println!("TlsStream: {} bytes, of which the session: {}", size_of::<TlsStream>(), size_of::<Session>());
    println!("rustls's server connection: {} bytes", size_of::<rustls::server::UnbufferedServerConnection>());
    println!("rustls's client connection: {} bytes", size_of::<rustls::client::UnbufferedClientConnection>());
    assert!(size_of::<TlsStream>() <= 512);
}
