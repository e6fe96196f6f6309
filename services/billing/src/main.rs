//! The billing service.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<billing::Billing>(env!("CARGO_PKG_VERSION"), proto::DESCRIPTORS)
}
