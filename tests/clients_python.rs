//! Clients and servers of Python's `websockets` and `grpc`, where the machine has them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::process::Command;

use support::*;

/// Debian's own, whose modules are Debian's packages; another may come first in the path.
const PYTHON: &str = "/usr/bin/python3";

/// Whether Python has `module`, which a test needs; skips by name or fails as for other tools.
fn has(module: &str) -> bool {
    let imported = Command::new(PYTHON).args(["-c", &format!("import {module}")]).output();
    imported.is_ok_and(|output| output.status.success()) || tools::lacks(&format!("Python's {module}"))
}

/// Starts a server that prints the port it listens on.
fn serve(dir: &Dir, name: &str, program: &str) -> (Process, String) {
    let path = dir.join(name);
    fs::write(&path, program).unwrap();
    let process = Process::start(name, Command::new(PYTHON).arg("-u").arg(path).env_clear());
    let find = |lines: &[log::Line]| {
        lines.iter().find_map(|line| line.text.strip_prefix("port ").map(str::to_owned))
    };
    let port = process.log().wait_for("the server's port", PATIENCE, find);
    (process, format!("127.0.0.1:{port}"))
}

/// Runs a client to its end.
#[track_caller]
fn run(dir: &Dir, name: &str, program: &str, address: &str) {
    let path = dir.join(name);
    fs::write(&path, program).unwrap();
    let process = Process::start(name, Command::new(PYTHON).arg(path).arg(address).env_clear());
    assert!(process.wait_exit(PATIENCE).success(), "{name} failed");
}

#[test]
fn websockets_talk_through_a_tunnel() {
    if !has("websockets") {
        return;
    }
    let dir = Dir::new();
    let (_server, address) = serve(&dir, "server.py", WEBSOCKET_SERVER);
    let connectors = format!("connectors: (servers: [(addr: {address:?})])");
    let config = Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], &connectors);
    let river = River::in_dir(dir).config(config).serve();
    run(river.dir(), "client.py", WEBSOCKET_CLIENT, &river.web().to_string());
}

const WEBSOCKET_SERVER: &str = r#"
import asyncio, websockets

async def echo(socket):
    async for message in socket:
        await socket.send(message)

async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print("port", server.sockets[0].getsockname()[1])
        await asyncio.Future()

asyncio.run(main())
"#;

/// Text, bytes, a large message in fragments, a ping, and an end in order.
const WEBSOCKET_CLIENT: &str = r#"
import asyncio, sys, websockets

async def main():
    async with websockets.connect("ws://" + sys.argv[1] + "/chat", max_size=None) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        await socket.send(bytes(range(256)))
        assert await socket.recv() == bytes(range(256))
        large = b"x" * 3_000_000
        await socket.send([large[:1_000_000], large[1_000_000:]])
        assert await socket.recv() == large
        await (await socket.ping())
    assert socket.close_code == 1000

asyncio.run(main())
"#;

#[test]
fn grpc_calls_of_all_four_kinds_go_through() {
    if !has("grpc") {
        return;
    }
    let dir = Dir::new();
    let (_server, address) = serve(&dir, "server.py", GRPC_SERVER);
    let connectors = format!("connectors: (servers: [(addr: {address:?}, proto: H2Only)])");
    let service = format!("listeners: [(bind: \"127.0.0.1:0\", offer_h2: true)], {connectors}");
    let config = Config::new().system("workers: 1").service_text("web", &service);
    let river = River::in_dir(dir).config(config).serve();
    run(river.dir(), "client.py", GRPC_CLIENT, &river.web().to_string());
}

/// Methods whose messages are plain bytes, so that no generated code is needed.
const GRPC_SERVER: &str = r#"
import grpc
from concurrent import futures

def unary(request, context):
    context.set_trailing_metadata((("x-sum", str(len(request))),))
    return request

def fails(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

def many(request, context):
    for nth in range(100):
        yield b"%d" % nth

def collect(requests, context):
    return b",".join(requests)

def both(requests, context):
    for request in requests:
        yield b"re: " + request

handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Fails": grpc.unary_unary_rpc_method_handler(fails),
    "Many": grpc.unary_stream_rpc_method_handler(many),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("river.Test", handlers),))
print("port", server.add_insecure_port("127.0.0.1:0"))
server.start()
server.wait_for_termination()
"#;

/// Each message of a call both ways is sent only when the one before was answered.
const GRPC_CLIENT: &str = r#"
import grpc, queue, sys

with grpc.insecure_channel(sys.argv[1], options=(("grpc.enable_http_proxy", 0),)) as channel:
    response, call = channel.unary_unary("/river.Test/Unary").with_call(b"hello" * 10000, timeout=10)
    assert response == b"hello" * 10000
    assert ("x-sum", "50000") in [(key, value) for key, value in call.trailing_metadata()]
    try:
        channel.unary_unary("/river.Test/Fails")(b"", timeout=10)
        assert False, "it did not fail"
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND and error.details() == "no such thing", error
    assert list(channel.unary_stream("/river.Test/Many")(b"", timeout=10)) == [b"%d" % nth for nth in range(100)]
    assert channel.stream_unary("/river.Test/Collect")(iter([b"a", b"b", b"c"]), timeout=10) == b"a,b,c"
    asked = queue.Queue()
    answers = channel.stream_stream("/river.Test/Both")(iter(asked.get, None), timeout=10)
    for nth in range(20):
        asked.put(b"%d" % nth)
        assert next(answers) == b"re: %d" % nth
    asked.put(None)
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK
"#;
