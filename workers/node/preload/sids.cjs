/**
 * Session ids that tell whom they belong to, without a table: 15 random characters, and 5 that hold
 * 14 bits of incarnation (which worker) and a 16 bit MAC (that it is one of ours at all).
 */
"use strict";

const { createHmac, randomBytes } = require("crypto");

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const RANDOM = 15;
const NUMBER = 5;

class Sids {
  #incarnation;
  #key;

  /**
   * @param {number} incarnation 0..16383, of this worker
   * @param {Buffer} key of the supervisor's life
   */
  constructor(incarnation, key) {
    this.#incarnation = incarnation;
    this.#key = key;
  }

  /** A new id. */
  mint() {
    let random = "";
    for (const byte of randomBytes(RANDOM)) random += ALPHABET[byte & 63];
    return random + this.#number(random);
  }

  /** Whether this worker minted `sid`, wherever it stands in a request. */
  isMine(sid) {
    if (sid.length !== RANDOM + NUMBER || !this.#names(sid)) return false;
    return sid.slice(RANDOM) === this.#number(sid.slice(0, RANDOM));
  }

  /** Whether `sid` names this worker, if it was minted at all. That is soon seen. */
  #names(sid) {
    const high = ALPHABET.indexOf(sid[RANDOM]) << 8;
    return (high | (ALPHABET.indexOf(sid[RANDOM + 1]) << 2) | (ALPHABET.indexOf(sid[RANDOM + 2]) >> 4)) === this.#incarnation;
  }

  /** The last characters of the id that begins with `random`. */
  #number(random) {
    const incarnation = Buffer.from([this.#incarnation >> 8, this.#incarnation & 255]);
    const digest = createHmac("sha256", this.#key).update(random, "latin1").update(incarnation).digest();
    const number = (this.#incarnation << 16) | digest.readUInt16BE(0);
    let text = "";
    for (let shift = 6 * (NUMBER - 1); shift >= 0; shift -= 6) text += ALPHABET[(number >> shift) & 63];
    return text;
  }
}

module.exports = { Sids };
