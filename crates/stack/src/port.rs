//! Free ports of 127.0.0.1 for servers.

use std::{
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

/// Where [`free`] looks: below the ports that Linux gives to outgoing connections (`ip_local_port_range`), so that no
/// client takes one between the choice and the server's start.
const SERVER_PORTS: Range<u16> = 12_000..32_000;

/// Whether a port can be listened on now.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port below 32768 that is free now: another one at each call, and most likely in processes that ask at the same
/// time. 0, which lets the kernel choose, when all are taken.
#[must_use]
pub fn free() -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let width = u32::from(SERVER_PORTS.end - SERVER_PORTS.start);
    // Neighbouring pids start far from each other.
    let first = std::process::id().wrapping_mul(137);
    (0..width)
        .filter_map(|_| {
            let offset = first.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % width;
            Some(SERVER_PORTS.start + u16::try_from(offset).ok()?)
        })
        .find(|port| is_free(*port))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_a_held_one_is_not_free() -> std::io::Result<()> {
        assert_ne!(free(), free());
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        assert!(!is_free(held.local_addr()?.port()));
        Ok(())
    }
}
