/**
 * Apps that look whether their port is free before they listen, by connecting to it. It is open here from
 * the first worker on, for all of them: before this worker has a server, nobody answers there, as if it were alone.
 */
"use strict";

const net = require("net");

const HERE = new Set(["localhost", "0.0.0.0", "::", "::1"]);

/** @param {{ports: number[], servers: object, packages: object}} parts `ports`: what the supervisor listens on */
function install({ ports, servers, packages }) {
  if (ports.length === 0) return;
  const { connect } = net.Socket.prototype;
  const probe = function (...args) {
    if (servers.any() || packages.found()) {
      if (net.Socket.prototype.connect === probe) net.Socket.prototype.connect = connect;
      return connect.apply(this, args);
    }
    const target = read(args);
    if (!target || !ports.includes(target.port)) return connect.apply(this, args);
    this.connecting = true;
    process.nextTick(() => this.destroy(refused(target)));
    return this;
  };
  net.Socket.prototype.connect = probe;
}

/** Where a connection is to go, if that is this machine. */
function read(args) {
  let host, port;
  try {
    // Node's own callers pass an array of what it has read already.
    const [options] = Array.isArray(args[0]) ? args[0] : net._normalizeArgs(args);
    ({ host = "localhost", port } = options);
  } catch {
    return null;
  }
  return HERE.has(host) || /^127\./.test(host) ? { address: host, port: Number(port) } : null;
}

function refused({ address, port }) {
  const error = new Error(`connect ECONNREFUSED ${address}:${port}`);
  return Object.assign(error, { errno: -111, code: "ECONNREFUSED", syscall: "connect", address, port });
}

module.exports = { install };
