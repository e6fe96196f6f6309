//! The notification service.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<notification::Notification>(env!("CARGO_PKG_VERSION"), proto::DESCRIPTORS)
}
