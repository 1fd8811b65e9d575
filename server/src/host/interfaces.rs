//! The addresses of this host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::NonNull;

/// The addresses of all interfaces that are up, loopback included, link-local ones left out: nobody can be told those,
/// since they mean something on one link only. Empty when the system does not tell.
pub(super) fn addresses() -> Vec<IpAddr> {
    let mut list = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the pointer that the function writes.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut next = NonNull::new(list);
    while let Some(entry) = next {
        // SAFETY: the list is well formed and lives until it is freed below.
        let entry = unsafe { entry.as_ref() };
        next = NonNull::new(entry.ifa_next);
        if entry.ifa_flags & libc::IFF_UP as u32 == 0 {
            continue;
        }
        let Some(address) = NonNull::new(entry.ifa_addr) else { continue };
        // SAFETY: every address begins with its family, which tells how large it is and what it holds.
        let address: IpAddr = match i32::from(unsafe { address.as_ref() }.sa_family) {
            libc::AF_INET => {
                // SAFETY: by its family it is a sockaddr_in.
                let address = unsafe { address.cast::<libc::sockaddr_in>().as_ref() };
                Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes()).into()
            }
            libc::AF_INET6 => {
                // SAFETY: by its family it is a sockaddr_in6.
                let address = unsafe { address.cast::<libc::sockaddr_in6>().as_ref() };
                Ipv6Addr::from(address.sin6_addr.s6_addr).into()
            }
            _ => continue,
        };
        let link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if !link_local {
            found.push(address);
        }
    }
    // SAFETY: it came from getifaddrs and is not used any more.
    unsafe { libc::freeifaddrs(list) };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there() {
        assert!(addresses().contains(&Ipv4Addr::LOCALHOST.into()));
    }
}
