//! Headers in which proxies name their clients, by hand and from real proxies.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;

use crate::support::client::read_answer;
use crate::support::node::scratch;
use crate::support::proxies::{haproxy, nginx};
use crate::support::supervisor::Builder;
use crate::support::{Supervisor, connect_from, eventually, proc, read_reply, request, sticky_run};

/// Four workers behind a proxy at 127.0.0.1 or in 127.0.1.0/24.
fn behind_a_proxy(flags: &[&str]) -> Builder {
    let trust = ["--trust", "127.0.0.1,127.0.1.0/24,fd00::/8", "--by", "ip"];
    sticky_run(4, &[&trust, &["--balance", "round-robin"][..], flags].concat())
}

/// The slot that answers this peer with these lines in its request.
#[track_caller]
fn ask_from(supervisor: &Supervisor, peer: [u8; 4], lines: &str) -> u16 {
    let mut stream = connect_from(peer.into(), supervisor.address()).expect("a connection");
    write!(stream, "GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n").expect("it is open");
    read_answer(&mut stream).expect("an answer").slot
}

#[track_caller]
fn ask(supervisor: &Supervisor, lines: &str) -> u16 {
    ask_from(supervisor, [127, 0, 0, 1], lines)
}

#[test]
fn the_rightmost_hop_that_is_not_trusted_is_the_client() {
    let supervisor = behind_a_proxy(&[]).start();
    let ann = ask(&supervisor, "X-Forwarded-For: 192.0.2.1\r\n");
    let bob = ask(&supervisor, "X-Forwarded-For: 2001:db8::7\r\n");
    let proxy = ask(&supervisor, "");
    assert!(ann != bob && bob != proxy && proxy != ann);
    let same = [
        (ann, "X-Forwarded-For: 192.0.2.1:4711\r\n"),
        (ann, "x-forwarded-for: 192.0.2.1, 127.0.1.9\r\n"),
        (ann, "X-Forwarded-For: 192.0.2.1, fd00::1, [fd00::2]:80,127.0.1.9:80\r\n"),
        (ann, "X-Forwarded-For: 192.0.2.1\r\nX-Other: x\r\nX-Forwarded-For: 127.0.1.9\r\n"),
        (bob, "X-Forwarded-For: [2001:db8::7]:4711\r\n"),
        (bob, "X-Forwarded-For: 2001:db8::99, fd00::1\r\n"),
        // Forged: what stands left of the client is what it has sent itself.
        (ann, "X-Forwarded-For: 2001:db8::7, 192.0.2.1\r\n"),
        (ann, "X-Forwarded-For: 2001:db8::7\r\nX-Forwarded-For: 192.0.2.1, 127.0.1.9\r\n"),
        (ann, "X-Forwarded-For: \", unknown, 127.0.0.1, 192.0.2.1\r\n"),
        // The other header is nobody's word.
        (ann, "Forwarded: for=\"[2001:db8::7]\"\r\nX-Forwarded-For: 192.0.2.1\r\n"),
        (proxy, "Forwarded: for=192.0.2.1\r\n"),
        // Nobody is known beyond the proxy.
        (proxy, "X-Forwarded-For: unknown\r\n"),
        (proxy, "X-Forwarded-For: 192.0.2.1, _hidden\r\n"),
        (proxy, "X-Forwarded-For: 192.0.2.1, 300.1.1.1\r\n"),
        (proxy, "X-Forwarded-For: \r\n"),
    ];
    for (slot, lines) in same {
        assert_eq!(ask(&supervisor, lines), slot, "{lines}");
    }
}

#[test]
fn forwarded_counts_where_it_is_asked_for_and_then_alone() {
    let supervisor = behind_a_proxy(&["--forwarded-header", "forwarded"]).start();
    let ann = ask(&supervisor, "Forwarded: for=192.0.2.1\r\n");
    let bob = ask(&supervisor, "Forwarded: for=\"[2001:db8::7]:4711\";proto=https\r\n");
    let proxy = ask(&supervisor, "X-Forwarded-For: 192.0.2.1\r\n");
    assert!(ann != bob && bob != proxy && proxy != ann);
    let same = [
        (ann, "Forwarded: proto=http;For=\"192.0.2.1:4711\", for=127.0.1.9;host=\"a,b\"\r\n"),
        (bob, "Forwarded: for=\"[2001:db8::7]\"\r\nforwarded: for=127.0.1.9\r\n"),
        (ann, "Forwarded: for=\"[2001:db8::7], for=192.0.2.1\r\n"),
        (
            ann,
            "Forwarded: for=\"\\\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-For: 2001:db8::7\r\n",
        ),
        (proxy, "Forwarded: for=unknown\r\n"),
        (proxy, "Forwarded: for=192.0.2.1, for=_hidden\r\n"),
        (proxy, ""),
    ];
    for (slot, lines) in same {
        assert_eq!(ask(&supervisor, lines), slot, "{lines}");
    }
}

#[test]
fn an_untrusted_peer_gets_nothing_by_a_header() {
    let supervisor = behind_a_proxy(&[]).start();
    let ann = ask(&supervisor, "X-Forwarded-For: 192.0.2.1\r\n");
    let eve = ask_from(&supervisor, [127, 0, 2, 1], "");
    assert_ne!(ann, eve);
    for lines in ["X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: 192.0.2.1, 127.0.1.9\r\n"] {
        assert_eq!(ask_from(&supervisor, [127, 0, 2, 1], lines), eve, "{lines}");
    }
}

#[test]
fn only_the_requests_of_trusted_peers_are_waited_for() {
    let supervisor = behind_a_proxy(&[]).env("TEST_WORKER", "greet").start();
    let idle = proc::open_files(supervisor.pid());
    let send = |peer: [u8; 4]| {
        let mut stream = connect_from(peer.into(), supervisor.address()).expect("a connection");
        stream.write_all(b"G").expect("it is open");
        stream
    };
    let mut trusted = send([127, 0, 0, 1]);
    eventually("the supervisor waits for the rest", || {
        (proc::open_files(supervisor.pid()) > idle).then_some(())
    });
    read_reply(&mut send([127, 0, 2, 1])).expect("the worker speaks to anybody else at once");
    supervisor.expect_no_trouble();
    trusted.write_all(b"ET / HTTP/1.1\r\n\r\n").expect("it is open");
    read_reply(&mut trusted).expect("the worker speaks to it then");
    let silent =
        behind_a_proxy(&["--forwarded-header", "none"]).env("TEST_WORKER", "greet").start();
    let mut stream = connect_from([127, 0, 0, 1].into(), silent.address()).expect("a connection");
    read_reply(&mut stream).expect("nothing is waited for");
}

#[test]
fn without_trust_nobody_is_named_and_the_text_is_still_a_key() {
    let flags = ["--balance", "round-robin", "--by"];
    let plain = sticky_run(4, &[&flags[..], &["ip"]].concat()).start();
    let slots: Vec<_> =
        (1..9).map(|last| ask(&plain, &format!("X-Forwarded-For: 192.0.2.{last}\r\n"))).collect();
    assert_eq!(slots, vec![slots[0]; 8]);
    let raw = sticky_run(4, &[&flags[..], &["header:x-forwarded-for"]].concat()).start();
    let first = ask(&raw, "X-Forwarded-For: 192.0.2.1, 127.0.1.9\r\n");
    assert_ne!(ask(&raw, "X-Forwarded-For: 192.0.2.1\r\n"), first);
    assert_eq!(ask(&raw, "X-Forwarded-For: 192.0.2.1, 127.0.1.9\r\n"), first);
}

#[test]
fn a_proxy_on_a_unix_socket_names_clients() {
    let path = scratch("forwarded-unix").join("a.sock");
    let listen = format!("unix:{}", path.display());
    let flags = ["--trust", "unix", "--by", "ip", "--balance", "round-robin", "--listen", &listen];
    let _supervisor = sticky_run(4, &flags).start();
    let ask = |last: u8| {
        let mut stream = UnixStream::connect(&path).expect("a connection");
        write!(stream, "GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.{last}\r\n\r\n")
            .expect("it is open");
        read_answer(&mut stream).expect("an answer").slot
    };
    let homes: Vec<_> = (1..5).map(ask).collect();
    assert!((0..4).all(|slot| homes.contains(&slot)), "{homes:?}");
    assert_eq!((1..5).map(ask).collect::<Vec<_>>(), homes);
}

#[test]
fn the_header_of_a_proxy_behind_another_that_speaks_proxy_counts_too() {
    let flags = ["--proxy-protocol", "--forwarded-header", "x-forwarded-for"];
    let supervisor = behind_a_proxy(&flags).start();
    let by = |source: &str, lines: &str| {
        ask_raw(
            &supervisor,
            &format!("PROXY TCP4 {source} 10.0.0.1 1 2\r\nGET / HTTP/1.1\r\n{lines}\r\n"),
        )
    };
    let ann = by("127.0.1.7", "X-Forwarded-For: 192.0.2.1\r\n");
    let bob = by("192.0.2.2", "");
    assert_ne!(ann, bob);
    // The client of the first proxy, which is none of ours, cannot name another.
    assert_eq!(by("192.0.2.2", "X-Forwarded-For: 192.0.2.1\r\n"), bob);
    assert_eq!(by("192.0.2.1", ""), ann);
}

#[track_caller]
fn ask_raw(supervisor: &Supervisor, bytes: &str) -> u16 {
    request(supervisor.address(), bytes).expect("an answer").slot
}

const NGINX: &str = "
daemon off;
worker_processes 1;
pid nginx.pid;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
    listen 127.0.0.1:{0};
    location / {
      proxy_pass http://{app};
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
  server {
    listen 127.0.0.1:{1};
    location / {
      proxy_pass http://{app};
      proxy_set_header Forwarded '$http_forwarded, for=\"$remote_addr:$remote_port\";proto=$scheme';
    }
  }
}
";

const HAPROXY: &str = "
global
  maxconn 1000
defaults
  mode http
  timeout connect 20s
  timeout client 20s
  timeout server 20s
listen one
  bind 127.0.0.1:{0}
  option forwardfor
  http-reuse never
  server app {app}
";

/// The slots of clients of a proxy, each of whom claims to come from elsewhere.
fn through(proxy: SocketAddr, forged: &str) -> Vec<u16> {
    let ask = |last| {
        let source = IpAddr::from(Ipv4Addr::new(127, 0, 9, last));
        let mut stream = connect_from(source, proxy).expect("a connection");
        let head = format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{forged}\r\n");
        stream.write_all(head.as_bytes()).expect("it is open");
        read_answer(&mut stream).expect("an answer").slot
    };
    (1..9).map(ask).collect()
}

/// The clients of this proxy stay, each with a worker of its own, whatever they claim.
#[track_caller]
fn everybody_stays(proxy: SocketAddr) {
    let homes = through(proxy, "");
    assert!((0..4).all(|slot| homes.contains(&slot)), "{homes:?}");
    for forged in [
        "",
        "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n",
        "X-Forwarded-For: 192.0.2.1, \"\r\nForwarded: for=\"192.0.2.1\r\n",
    ] {
        assert_eq!(through(proxy, forged), homes, "{forged}");
    }
}

#[test]
fn the_clients_of_a_real_nginx_stay_each_with_a_worker_of_their_own() {
    for (nth, header) in ["x-forwarded-for", "forwarded"].into_iter().enumerate() {
        let supervisor = behind_a_proxy(&["--forwarded-header", header]).start();
        let configuration = NGINX.replace("{app}", &supervisor.address().to_string());
        let name = format!("nginx-{header}");
        let Some(proxy) = nginx::<2>(&name, &configuration) else { return };
        everybody_stays(proxy.address(nth));
    }
}

#[test]
fn the_clients_of_a_real_haproxy_stay_each_with_a_worker_of_their_own() {
    let supervisor = behind_a_proxy(&[]).start();
    let configuration = HAPROXY.replace("{app}", &supervisor.address().to_string());
    let Some(proxy) = haproxy::<1>("haproxy-forwarded", &configuration) else { return };
    everybody_stays(proxy.address(0));
}

#[test]
fn without_trust_the_clients_of_an_nginx_are_all_one() {
    let flags = ["--by", "ip", "--balance", "round-robin"];
    let supervisor = sticky_run(4, &flags).start();
    let configuration = NGINX.replace("{app}", &supervisor.address().to_string());
    let Some(proxy) = nginx::<2>("nginx-untrusted", &configuration) else { return };
    let slots = through(proxy.address(0), "");
    assert_eq!(slots, vec![slots[0]; 8]);
}
