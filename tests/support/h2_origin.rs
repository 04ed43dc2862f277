//! A server that speaks HTTP/2 by prior knowledge, to stand behind River, on the `h2` crate.
//!
//! It runs on a thread of its own. What answers is asynchronous, so that a test can say what comes when; it is told by a
//! [`Gate`](super::Gate) through [`pass`].

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use h2::server::{Builder as Settings, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::tokio_io::TokioIo;
use super::wait::{Count, Gate, PATIENCE};

/// A request as the server got it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct H2Request {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// The number of its stream.
    pub stream: u32,
    pub method: String,
    pub scheme: String,
    pub authority: String,
    pub path: String,
    /// The protocol of an extended CONNECT.
    pub protocol: Option<String>,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    /// Its body came to its end.
    pub whole: bool,
}

impl H2Request {
    /// The value of a field, as text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A request whose head has come, and the means to answer it.
pub struct Exchange {
    pub request: H2Request,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
}

/// A running server. Dropped, it closes everything.
pub struct H2Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<smol::channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<H2Request>>,
    recorded: Count,
    accepted: Count,
    open: Count,
    /// Streams that were reset or lost before their request was whole.
    broken: Count,
    /// Told to every connection.
    orders: Mutex<Vec<smol::channel::Sender<Order>>>,
}

#[derive(Clone, Copy)]
enum Order {
    GoAway,
    Close,
}

/// How connections are served.
type Settle = dyn Fn(&mut Settings) + Send + Sync;

impl H2Origin {
    /// A server that answers every request with `METHOD PATH\n` and the request's body.
    pub fn echo() -> Self {
        Self::with(|mut exchange| async move {
            exchange.read().await;
            let mut body = format!("{} {}\n", exchange.request.method, exchange.request.path).into_bytes();
            body.extend_from_slice(&exchange.request.body);
            exchange.respond(200, &[("x-origin", "h2")], &body).await;
        })
    }

    /// A server that answers with `answer`.
    pub fn with<F>(answer: impl Fn(Exchange) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::settled(|_| {}, answer)
    }

    /// A server that answers with `answer`, and says what `settle` sets.
    pub fn settled<F>(
        settle: impl Fn(&mut Settings) + Send + Sync + 'static,
        answer: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::start(None, settle, answer)
    }

    /// A server that answers with `answer`, over TLS.
    pub fn secure<F>(
        config: Arc<rustls::ServerConfig>,
        answer: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::start(Some(config), |_| {}, answer)
    }

    fn start<F>(
        tls: Option<Arc<rustls::ServerConfig>>,
        settle: impl Fn(&mut Settings) + Send + Sync + 'static,
        answer: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let (stop, stopped) = smol::channel::bounded(1);
        let serving = shared.clone();
        let thread = thread::Builder::new().name("h2-origin".into()).spawn(move || {
            let executor = Rc::new(smol::LocalExecutor::new());
            let settle: Arc<Settle> = Arc::new(settle);
            let answer = Rc::new(answer);
            let accepting = accept(listener, tls, executor.clone(), serving, settle, answer);
            smol::block_on(executor.run(smol::future::or(accepting, async {
                let _ = stopped.recv().await;
            })));
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread.unwrap()) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands in a configuration for it.
    pub fn server(&self) -> String {
        format!("(addr: \"{}\", proto: H2Only)", self.address)
    }

    /// The requests whose exchange has ended, in the order they did.
    pub fn requests(&self) -> Vec<H2Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until `count` exchanges have ended, and returns their requests.
    #[track_caller]
    pub fn wait_requests(&self, count: usize) -> Vec<H2Request> {
        self.shared.recorded.wait("requests at the origin", PATIENCE, |seen| seen >= count);
        self.requests()
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> usize {
        self.shared.accepted.now()
    }

    /// Waits until `holds` of the number of open connections.
    #[track_caller]
    pub fn wait_open(&self, holds: impl Fn(usize) -> bool) {
        self.shared.open.wait("the origin's open connections", PATIENCE, holds);
    }

    /// Waits until `count` requests were given up by the client before they were whole.
    #[track_caller]
    pub fn wait_broken(&self, count: usize) {
        self.shared.broken.wait("requests given up", PATIENCE, |seen| seen >= count);
    }

    /// Ends all connections that are open now, in order: GOAWAY, and open streams finish.
    pub fn go_away(&self) {
        self.order(Order::GoAway);
    }

    /// Closes all connections that are open now, as they are.
    pub fn close(&self) {
        self.order(Order::Close);
    }

    fn order(&self, order: Order) {
        for connection in &*self.shared.orders.lock().unwrap() {
            let _ = connection.try_send(order);
        }
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the origin has panicked");
        }
    }
}

impl Exchange {
    /// Reads the request to its end.
    pub async fn read(&mut self) {
        while let Some(data) = self.body.data().await {
            let Ok(data) = data else { return self.broke() };
            let _ = self.body.flow_control().release_capacity(data.len());
            self.request.body.extend_from_slice(&data);
        }
        match self.body.trailers().await {
            Ok(trailers) => self.request.trailers = trailers.unwrap_or_default(),
            Err(_) => return self.broke(),
        }
        self.request.whole = true;
    }

    /// Reads the next piece of the request's body; `None` at its end.
    pub async fn piece(&mut self) -> Option<Bytes> {
        match self.body.data().await {
            Some(Ok(data)) => {
                let _ = self.body.flow_control().release_capacity(data.len());
                Some(data)
            }
            Some(Err(_)) => {
                self.broke();
                None
            }
            None => None,
        }
    }

    fn broke(&self) {
        self.shared.broken.add();
    }

    /// Sends an interim response.
    pub fn interim(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.respond.send_informational(head(status, fields)).unwrap();
    }

    /// Sends the head of a response, behind which a body comes.
    pub fn begin(&mut self, status: u16, fields: &[(&str, &str)]) -> Body {
        Body(self.respond.send_response(head(status, fields), false).unwrap())
    }

    /// Sends the head of a response that has no body.
    pub fn end(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.respond.send_response(head(status, fields), true).unwrap();
    }

    /// Sends a whole response; the client may be gone.
    pub async fn respond(&mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        let Ok(stream) = self.respond.send_response(head(status, fields), body.is_empty()) else { return };
        if !body.is_empty() {
            Body(stream).last(body).await;
        }
    }

    /// Resets the stream.
    pub fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    /// Resolves once the client has reset the stream.
    pub async fn gone(&mut self) {
        let _ = std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.shared.requests.lock().unwrap().push(std::mem::take(&mut self.request));
        self.shared.recorded.add();
    }
}

/// The body of a response that is on its way.
pub struct Body(pub SendStream<Bytes>);

impl Body {
    /// Sends a part of it, as fast as the client takes it; false if the client has gone.
    pub async fn part(&mut self, data: &[u8]) -> bool {
        self.send(data, false).await
    }

    /// Sends the last part of it.
    pub async fn last(mut self, data: &[u8]) -> bool {
        self.send(data, true).await
    }

    /// Ends it with trailers.
    pub fn trailers(mut self, fields: &[(&str, &str)]) {
        let mut trailers = HeaderMap::new();
        set(&mut trailers, fields);
        self.0.send_trailers(trailers).unwrap();
    }

    async fn send(&mut self, mut data: &[u8], ends: bool) -> bool {
        while !data.is_empty() {
            self.0.reserve_capacity(data.len());
            let Some(Ok(room)) = std::future::poll_fn(|cx| self.0.poll_capacity(cx)).await else {
                return false;
            };
            let (some, rest) = data.split_at(room.min(data.len()));
            data = rest;
            if self.0.send_data(Bytes::copy_from_slice(some), ends && data.is_empty()).is_err() {
                return false;
            }
        }
        true
    }
}

/// Waits for a gate without holding up the other streams.
pub async fn pass(gate: &Arc<Gate>) {
    let gate = gate.clone();
    smol::unblock(move || gate.pass()).await;
}

fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut response = Response::builder().status(status).body(()).unwrap();
    set(response.headers_mut(), fields);
    response
}

fn set(map: &mut HeaderMap, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
}

async fn accept<F>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    executor: Rc<smol::LocalExecutor<'static>>,
    shared: Arc<Shared>,
    settle: Arc<Settle>,
    answer: Rc<impl Fn(Exchange) -> F + 'static>,
) where
    F: Future<Output = ()> + 'static,
{
    let listener = async_net::TcpListener::try_from(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let connection = shared.accepted.add() - 1;
        shared.open.add();
        let (order, orders) = smol::channel::unbounded();
        shared.orders.lock().unwrap().push(order);
        let stream: Pin<Box<dyn ByteStream>> = match &tls {
            Some(config) => {
                Box::pin(Tls { tcp: stream, session: rustls::ServerConnection::new(config.clone()).unwrap() })
            }
            None => Box::pin(stream),
        };
        let serve = serve(
            stream,
            connection,
            executor.clone(),
            shared.clone(),
            settle.clone(),
            answer.clone(),
            orders,
        );
        let shared = shared.clone();
        executor
            .spawn(async move {
                if let Err(error) = serve.await {
                    eprintln!("h2 origin: connection {connection}: {error}");
                }
                shared.open.subtract();
            })
            .detach();
    }
}

async fn serve<F>(
    stream: Pin<Box<dyn ByteStream>>,
    connection: usize,
    executor: Rc<smol::LocalExecutor<'static>>,
    shared: Arc<Shared>,
    settle: Arc<Settle>,
    answer: Rc<impl Fn(Exchange) -> F + 'static>,
    orders: smol::channel::Receiver<Order>,
) -> Result<(), h2::Error>
where
    F: Future<Output = ()> + 'static,
{
    let mut settings = Settings::new();
    settle(&mut settings);
    let mut streams = settings.handshake::<_, Bytes>(TokioIo(stream)).await?;
    loop {
        enum Event<T> {
            Stream(T),
            Order(Order),
        }
        let next = async { Event::Stream(streams.accept().await) };
        let order = async {
            match orders.recv().await {
                Ok(order) => Event::Order(order),
                Err(_) => std::future::pending().await,
            }
        };
        match smol::future::or(order, next).await {
            Event::Order(Order::GoAway) => streams.graceful_shutdown(),
            Event::Order(Order::Close) => return Ok(()),
            Event::Stream(None) => return Ok(()),
            Event::Stream(Some(stream)) => {
                let (request, respond) = stream?;
                let (parts, body) = request.into_parts();
                let text = |part: Option<String>| part.unwrap_or_default();
                let request = H2Request {
                    connection,
                    stream: respond.stream_id().as_u32(),
                    method: parts.method.to_string(),
                    scheme: text(parts.uri.scheme_str().map(str::to_owned)),
                    authority: text(parts.uri.authority().map(ToString::to_string)),
                    path: text(parts.uri.path_and_query().map(ToString::to_string)),
                    protocol: parts
                        .extensions
                        .get::<h2::ext::Protocol>()
                        .map(|protocol| protocol.as_str().to_owned()),
                    fields: parts.headers,
                    ..H2Request::default()
                };
                let exchange = Exchange { request, body, respond, shared: shared.clone() };
                executor.spawn(answer(exchange)).detach();
            }
        }
    }
}

/// What a connection goes over.
trait ByteStream: smol::io::AsyncRead + smol::io::AsyncWrite {}

impl<T: smol::io::AsyncRead + smol::io::AsyncWrite> ByteStream for T {}

/// TLS over TCP.
struct Tls {
    tcp: async_net::TcpStream,
    session: rustls::ServerConnection,
}

/// The TCP connection as rustls uses it: what is pending would block.
struct Blocking<'a, 'b>(&'a mut async_net::TcpStream, &'a mut Context<'b>);

impl io::Read for Blocking<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match smol::io::AsyncRead::poll_read(Pin::new(&mut *self.0), self.1, buf) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for Blocking<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match smol::io::AsyncWrite::poll_write(Pin::new(&mut *self.0), self.1, buf) {
            Poll::Ready(wrote) => wrote,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn poll<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}

impl Tls {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            ready!(poll(self.session.write_tls(&mut Blocking(&mut self.tcp, cx))))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl smol::io::AsyncRead for Tls {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let _ = this.poll_out(cx)?;
            if let Poll::Ready(read) = poll(io::Read::read(&mut this.session.reader(), buf)) {
                return Poll::Ready(read);
            }
            ready!(poll(this.session.read_tls(&mut Blocking(&mut this.tcp, cx))))?;
            this.session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl smol::io::AsyncWrite for Tls {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        let count = io::Write::write(&mut this.session.writer(), buf)?;
        let _ = this.poll_out(cx)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.send_close_notify();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.tcp).poll_close(cx)
    }
}
