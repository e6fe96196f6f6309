//! The whole flow, on the real stack with the real binaries: from the gRPC call to the customer's notification.

mod client;
mod faults;
mod happy;
mod rubbish;
mod shutdown;
