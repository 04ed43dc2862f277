//! Clients that take what they are sent slowly, over TLS: those that take something are served, and the end of a connection
//! reaches them however full the way to them is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use support::h2::{END_HEADERS, END_STREAM, PREFACE, block, frame, kind, pseudo};
use support::socket::Socket;
use support::tls::{Authority, NAME, TlsSocket, Trust, VERSIONS};
use support::*;

const CERTIFICATES: &str = "certificates: [(cert: \"site.pem\", key: \"site.key\")]";

/// How long a client may take nothing.
const SEND: Duration = Duration::from_secs(1);

/// What a slow client reads at a time, and how long it rests then: much less in each time-out than a record of TLS holds.
const SIP: usize = 1 << 10;
const REST: Duration = Duration::from_millis(130);

/// Connects with so small a receive buffer that what the client reads soon makes room for what River sends.
fn narrow(address: SocketAddr) -> TcpStream {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&fd, 4 << 10).unwrap();
    connect(&fd, &address).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads what arrives, whatever it is, a little at a time for several time-outs.
fn read_slowly(socket: Socket) -> Socket {
    let begin = Instant::now();
    while begin.elapsed() < 5 * SEND {
        let read = rustix::io::read(&socket, &mut [0; SIP]);
        if !read.is_ok_and(|count| count > 0) {
            break;
        }
        // The pace of the client; nothing is waited for.
        std::thread::sleep(REST);
    }
    socket
}

#[test]
fn a_client_that_takes_less_than_a_record_in_each_time_out_is_none_that_takes_nothing() {
    let (authority, dir) = (Authority::new("authority"), Dir::new());
    authority.sign(NAME).write(dir.path(), "site");
    let origin = Origin::with(|request, reply| {
        let length = if request.target == "/h2" { 1_000_000 } else { 64 << 20 };
        reply.respond(200, &[], &vec![7; length])
    });
    let text = format!(
        "listeners: [(bind: \"127.0.0.1:0\"), (bind: \"127.0.0.1:0\", tls: ({CERTIFICATES}))], {}, \
         timeouts: (send: \"1s\"), h2: (max_unsent: \"1MiB\")",
        config::connectors(std::slice::from_ref(origin.target()))
    );
    let river = River::in_dir(dir).config(Config::new().service_text("web", &text)).serve();
    let secure = |protocol: &[u8]| {
        let mut config = authority.client(&VERSIONS);
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsSocket::client(narrow(river.address("web", 1)), &Trust::new(config))
    };
    let [plain, http1] = ["plain", "tls"].map(|path| format!("GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    let mut http2 = [
        PREFACE,
        // The client's windows never keep River from sending.
        &frame(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        &frame(kind::WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()),
    ]
    .concat();
    // More in all than the kernel buffers, and so little of each stream that nothing waits but the connection.
    for stream in 0..8 {
        let head = block(&pseudo("GET", "/h2"));
        http2.extend(frame(kind::HEADERS, END_STREAM | END_HEADERS, 1 + 2 * stream, &head));
    }
    let failures = || {
        let failed = |line: &log::Line| line.text.contains("failed");
        river.log().lines().into_iter().filter(failed).map(|line| line.text).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let mut clients = vec![scope.spawn(|| {
            let mut stream = narrow(river.address("web", 0));
            stream.write_all(plain.as_bytes()).unwrap();
            read_slowly(Socket::Tcp(stream))
        })];
        for (protocol, bytes) in [(&b"http/1.1"[..], http1.as_bytes()), (b"h2", &http2)] {
            let stream = secure(protocol);
            clients.push(scope.spawn(move || {
                assert_eq!(stream.write(bytes).unwrap(), bytes.len());
                read_slowly(Socket::Tls(Box::new(stream)))
            }));
        }
        // They stay connected until all have been asked.
        let clients: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        assert_eq!(failures(), [""; 0]);
        drop(clients);
    });
}

/// How many writes of so many bytes a Unix socket takes that nobody reads from.
fn writes_until_full(length: usize) -> usize {
    let (near, _far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let bytes = vec![0; length];
    let mut count = 0;
    loop {
        match (&near).write(&bytes) {
            Ok(written) => assert_eq!(written, length),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return count;
            }
        }
        count += 1;
    }
}

/// On a Unix socket, which takes a write as a whole or not at all, the last byte of a tunnel may go and the close_notify
/// behind it may not.
#[test]
fn the_end_of_a_tunnel_reaches_a_client_that_has_no_room_for_it_yet() {
    /// A record of TLS 1.3 of so many bytes has these beside them: a header, the content's type and a tag.
    const BESIDE: u64 = 22;
    const PIECE: usize = 1000;
    let (authority, dir) = (Authority::new("authority"), Dir::new());
    authority.sign(NAME).write(dir.path(), "site");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = format!("(bind: \"unix:web.sock\", tls: ({CERTIFICATES}, tickets: (lifetime: \"0s\")))");
    let tunnels = format!(
        "listeners: [{listener}], tcp: (servers: [(addr: \"{}\")], idle_timeout: \"20s\")",
        server.local_addr().unwrap()
    );
    let config = Config::new().system("workers: 1").service_text("tunnels", &tunnels);
    let config = config.service("web", &["127.0.0.1:0"], &config::respond("hello"));
    let river = River::in_dir(dir).config(config).serve();
    let mut stream = UnixStream::connect(river.dir().join("web.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let mut session = ClientConnection::new(Arc::new(authority.client(&VERSIONS)), name).unwrap();
    session.complete_io(&mut stream).unwrap();
    let mut client = rustls::Stream::new(&mut session, &mut stream);
    client.write_all(b"a").unwrap();
    let (mut server, _) = server.accept().unwrap();
    server.set_nodelay(true).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"b").unwrap();
    client.read_exact(&mut [0]).unwrap();
    // The client's direction ends, and then there is no room for one write more.
    session.send_close_notify();
    session.complete_io(&mut stream).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    let count = writes_until_full(PIECE + usize::try_from(BESIDE).unwrap());
    for nth in 1..=count {
        server.write_all(&[7; PIECE]).unwrap();
        let there = u64::try_from(nth * PIECE).unwrap() + u64::try_from(nth).unwrap() * BESIDE;
        until("the piece is there", PATIENCE, || rustix::io::ioctl_fionread(&stream).unwrap() == there);
    }
    server.shutdown(Shutdown::Write).unwrap();
    // By then the one worker knows of the end.
    for _ in 0..3 {
        get(river.address("web", 0), "/").expect_status(200);
    }
    let mut all = Vec::new();
    rustls::Stream::new(&mut session, &mut stream).read_to_end(&mut all).expect("an end in order");
    assert_eq!(all.len(), count * PIECE);
    river.wait_for_line("both ends have ended", PATIENCE);
}
