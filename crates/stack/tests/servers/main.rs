//! Both servers, for real: started, restarted, refused, killed, stopped.

mod kafka;
mod postgres;
mod scratch;
