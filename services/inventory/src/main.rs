//! The inventory service.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<inventory::Inventory>(env!("CARGO_PKG_VERSION"), proto::DESCRIPTORS)
}
