//! The whole flow, on the real stack with the real binaries: from the gRPC call to the customer's notification.

mod cancel;
mod catalogue;
mod client;
mod damage;
mod dead_letters;
mod faults;
mod happy;
mod home;
mod logs;
mod outages;
mod rubbish;
mod saga;
mod shutdown;
mod soak;
mod stock;
mod trace;
mod workers;
