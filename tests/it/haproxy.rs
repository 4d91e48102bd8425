//! Headers of the PROXY protocol from a real HAProxy.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::proxies::haproxy;
use crate::support::{get_from, sticky_run};

const HAPROXY: &str = "
global
  maxconn 1000
defaults
  mode tcp
  timeout connect 20s
  timeout client 20s
  timeout server 20s
listen one
  bind 127.0.0.1:{0}
  server app {app} send-proxy check check-send-proxy inter 100ms
listen two
  bind 127.0.0.1:{1}
  server app {app} send-proxy-v2 check check-send-proxy inter 100ms
listen three
  bind 127.0.0.1:{2}
  server app {app} send-proxy-v2 proxy-v2-options crc32c,unique-id
  unique-id-format %pid-%rt
";

/// The slots of clients of HAProxy, who come from addresses of their own.
fn through_haproxy(proxy: SocketAddr) -> Vec<u16> {
    let ask = |last| {
        let source = Ipv4Addr::new(127, 0, 9, last);
        let answer = get_from(source.into(), proxy, "/");
        let message = answer.value("message").to_owned();
        (answer.slot, message.contains(&format!("client={source}:")))
    };
    let answers: Vec<_> = (1..9).map(ask).collect();
    answers.into_iter().map(|(slot, named)| if named { slot } else { u16::MAX }).collect()
}

#[test]
fn the_clients_of_a_real_haproxy_stay_each_with_a_worker_of_their_own() {
    let flags =
        ["--by", "ip", "--balance", "round-robin", "--proxy-protocol", "--trust", "127.0.0.1"];
    let supervisor = sticky_run(4, &flags).start();
    let configuration = HAPROXY.replace("{app}", &supervisor.address().to_string());
    let Some(proxy) = haproxy::<3>("haproxy-protocol", &configuration) else { return };
    let homes = through_haproxy(proxy.address(0));
    assert!((0..4).all(|slot| homes.contains(&slot)), "{homes:?}");
    for nth in [0, 1, 2, 0, 1, 2] {
        assert_eq!(through_haproxy(proxy.address(nth)), homes, "port {nth}");
    }
    supervisor.expect_no_trouble();
}

#[test]
fn without_trust_the_clients_of_a_haproxy_are_all_one() {
    let flags = ["--by", "ip", "--balance", "round-robin"];
    let supervisor = sticky_run(4, &flags).start();
    let configuration = HAPROXY.replace("{app}", &supervisor.address().to_string());
    let plain = configuration.replace(" send-proxy check check-send-proxy", "");
    let Some(proxy) = haproxy::<3>("haproxy-plain", &plain) else { return };
    assert_eq!(through_haproxy(proxy.address(0)), [u16::MAX; 8], "none is named");
    let slots: Vec<_> = (1..9)
        .map(|last| get_from(Ipv4Addr::new(127, 0, 9, last).into(), proxy.address(0), "/").slot)
        .collect();
    assert_eq!(slots, vec![slots[0]; 8]);
}
