//! River is an HTTP reverse proxy for Linux whose binary and configuration can be replaced while it serves,
//! without one client noticing.
//!
//! The crate is a library and a thin binary. Its rooms, from the process's outside to the wire:
//!
//! `cli` → `config` → `lifecycle` → (`handoff`, `listen`) → `proxy` → `upstream` → `wire` → (`tls`, `h2`) → `http` → `runtime` → `system`
//!
//! An import points right or skips ahead, never back; `base` and `observe` may be used by all.
//! A test (`tests/rooms.rs`) holds the rule.
//!
//! # Cancel safety
//!
//! Every future of the crate may be dropped at any await point: what that does stands in the documentation of
//! [`runtime`] and [`proxy`] for the data path, and of [`lifecycle::run`] for the control thread.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("River runs on Linux only: it is built on epoll, SCM_RIGHTS and pidfds");

pub mod base;
pub mod cli;
pub mod config;
pub mod h2;
pub mod handoff;
pub mod http;
pub mod lifecycle;
pub mod listen;
pub mod observe;
pub mod proxy;
pub mod runtime;
pub mod system;
pub mod tls;
pub mod upstream;
pub mod wire;
