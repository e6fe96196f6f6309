//! The order service.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<order::OrderService>(env!("CARGO_PKG_VERSION"), proto::DESCRIPTORS)
}
