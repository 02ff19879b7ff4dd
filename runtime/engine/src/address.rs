//! Vetting of addresses: which are public, and which ones a grant reaches.
//!
//! Pure: a grant and an address in, a verdict out. An address that is not known to be public is not.
//!
//! Invariant: an address that is not public is allowed only by a grant that names that very address (or
//! `localhost`, for loopback), never by a name or wildcard: whoever controls a name controls what it
//! resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gilliam_model::outbound::OutboundHost;
use ipnet::{Ipv4Net, Ipv6Net};

/// Special-purpose IPv4 blocks (IANA registry, RFC 6890): this network, private, shared (CGNAT), loopback,
/// link-local with the metadata services, protocol assignments, documentation, 6to4 relays, benchmarking,
/// multicast, reserved, broadcast.
const SPECIAL_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// The only IPv6 block given out for global unicast. All of loopback, unique local, link-local, multicast,
/// NAT64 (64:ff9b::/96) and the IPv4-embedding forms of `::/8` lie outside.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Special-purpose blocks within it: protocol assignments with Teredo, documentation, 6to4 (embeds any IPv4
/// address).
const SPECIAL_V6: &[Ipv6Net] = &[
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(s: [u16; 8], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(
        Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]),
        bits,
    )
}

/// Whether a grant that covers a request lets it go to `address`.
pub(crate) fn reaches(grant: &OutboundHost, address: IpAddr) -> bool {
    is_public(address) || grant.names_address(address)
}

/// Whether a plain connection to `address` is granted. A name says nothing here: no resolution is known.
pub(crate) fn allows_socket(grant: &OutboundHost, address: SocketAddr) -> bool {
    let ip = address.ip();
    grant.covers_port(address.port()) && (grant.names_address(ip) || (grant.is_any_host() && is_public(ip)))
}

/// Whether `address` is on the public internet. IPv4 in IPv6's mapped form is judged as IPv4.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|block| block.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|block| block.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> OutboundHost {
        text.parse().expect(text)
    }

    #[test]
    fn private_addresses_need_their_own_grant() {
        let (loopback, metadata) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([169, 254, 169, 254]));
        for any in [
            "*://*:*",
            "https://*.example.com",
            "https://api.example.com",
            "http://10.0.0.1",
        ] {
            assert!(!reaches(&grant(any), loopback), "{any}");
            assert!(!reaches(&grant(any), metadata), "{any}");
        }
        let mapped = "::ffff:127.0.0.1".parse().expect("address");
        assert!(reaches(&grant("http://127.0.0.1:9000"), mapped));
        assert!(reaches(&grant("http://localhost:9000"), loopback));
        assert!(!reaches(&grant("http://localhost:9000"), metadata));
        assert!(reaches(
            &grant("https://api.example.com"),
            IpAddr::from([1, 1, 1, 1])
        ));
    }

    #[test]
    fn plain_connections_need_an_address_or_any_host() {
        for (text, address, allowed) in [
            ("*://*:*", "1.1.1.1:53", true),
            ("*://*:*", "10.0.0.5:53", false),
            ("*://*:80", "1.1.1.1:53", false),
            ("tcp://10.0.0.5:53", "10.0.0.5:53", true),
            ("tcp://10.0.0.5:53", "10.0.0.5:54", false),
            ("tcp://10.0.0.5:53", "[::ffff:10.0.0.5]:53", true),
            ("http://localhost:9000", "127.0.0.1:9000", true),
            ("https://api.example.com", "1.1.1.1:443", false),
            ("https://*.example.com", "1.1.1.1:443", false),
        ] {
            let verdict = allows_socket(&grant(text), address.parse().expect(address));
            assert_eq!(verdict, allowed, "{text} {address}");
        }
    }

    #[test]
    fn special_addresses_are_not_public() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fd00:ec2::254",
            "fc00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
        ] {
            assert!(!is_public(text.parse().expect(text)), "{text}");
        }
    }

    #[test]
    fn public_addresses_are() {
        for text in [
            "1.1.1.1",
            "93.184.215.14",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700:4700::1111",
            "2a00::1",
        ] {
            assert!(is_public(text.parse().expect(text)), "{text}");
        }
    }
}
