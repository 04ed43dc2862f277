//! Tests of the machine: its table, its typestate on fakes, pairs of instances, and the driver on real sockets.

mod driver;
mod fakes;
mod model;
mod moves;
mod pair;
mod table;
mod typestate;
