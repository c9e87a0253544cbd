"use strict";

// Decompresses gzip (RFC 1952 and 1951). The browser's own DecompressionStream is asynchronous, and
// a browser that prints waits for nothing: charts must be there when `beforeprint` returns.

const HEADER = 10; // bytes before the data, as Python's gzip writes them: no name, no comment
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LENGTHS = extended(3, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5]);
const DISTANCES = extended(1, Array.from({ length: 30 }, (_, code) => Math.max(0, (code >> 1) - 1)));
LENGTHS.push({ base: 258, extra: 0 });

// Codes that stand for a range each: where it begins, and how many more bits say where in it.
function extended(first, extras) {
  let base = first;
  return extras.map((extra) => {
    const code = { base, extra };
    base += 1 << extra;
    return code;
  });
}

// A table from the next bits to `symbol * 16 + length`, for the lengths of a canonical code.
function decoder(lengths) {
  const bits = Math.max(1, ...lengths);
  const table = new Uint16Array(1 << bits);
  for (let length = 1, code = 0; length <= bits; length++, code <<= 1) {
    lengths.forEach((own, symbol) => {
      if (own !== length) return;
      let at = 0; // codes are stored with their first bit lowest
      for (let bit = 0; bit < length; bit++) at |= ((code >> bit) & 1) << (length - 1 - bit);
      for (; at < table.length; at += 1 << length) table[at] = symbol * 16 + length;
      code++;
    });
  }
  return { bits, table };
}

class Inflater {
  constructor(source) {
    this.source = source; // a Uint8Array, from its header to its trailer
    this.at = HEADER;
    this.held = this.count = this.filled = 0;
    // The last four bytes are the size of the result.
    this.result = new Uint8Array(new DataView(source.buffer).getUint32(source.length - 4, true));
  }

  bits(count) {
    while (this.count < count) {
      this.held |= this.source[this.at++] << this.count;
      this.count += 8;
    }
    const value = this.held & ((1 << count) - 1);
    this.held >>>= count;
    this.count -= count;
    return value;
  }

  symbol({ bits, table }) {
    while (this.count < bits) {
      this.held |= this.source[this.at++] << this.count; // past the end: nothing, as after a last code
      this.count += 8;
    }
    const found = table[this.held & ((1 << bits) - 1)];
    this.held >>>= found & 15;
    this.count -= found & 15;
    return found >> 4;
  }

  run() {
    for (let last = 0; !last; ) {
      last = this.bits(1);
      const kind = this.bits(2);
      if (kind === 0) this.stored();
      else this.coded(...(kind === 1 ? this.fixed() : this.dynamic()));
    }
    return this.result;
  }

  stored() {
    this.at -= this.count >> 3; // whole bytes that were read ahead
    this.held = this.count = 0;
    const length = this.source[this.at] | (this.source[this.at + 1] << 8);
    this.result.set(this.source.subarray(this.at + 4, this.at + 4 + length), this.filled);
    this.at += 4 + length;
    this.filled += length;
  }

  fixed() {
    const length = (symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8);
    return [decoder(Array.from({ length: 288 }, (_, symbol) => length(symbol))), decoder(Array(30).fill(5))];
  }

  dynamic() {
    const [literals, distances, used] = [this.bits(5) + 257, this.bits(5) + 1, this.bits(4) + 4];
    const own = Array(19).fill(0);
    for (const symbol of ORDER.slice(0, used)) own[symbol] = this.bits(3);
    const code = decoder(own);
    const lengths = [];
    while (lengths.length < literals + distances) {
      const symbol = this.symbol(code);
      if (symbol < 16) lengths.push(symbol);
      else if (symbol === 16) lengths.push(...Array(3 + this.bits(2)).fill(lengths.at(-1)));
      else lengths.push(...Array(symbol === 17 ? 3 + this.bits(3) : 11 + this.bits(7)).fill(0));
    }
    return [decoder(lengths.slice(0, literals)), decoder(lengths.slice(literals))];
  }

  coded(literals, distances) {
    for (let symbol; (symbol = this.symbol(literals)) !== 256; ) {
      if (symbol < 256) {
        this.result[this.filled++] = symbol;
        continue;
      }
      const end = this.filled + this.offset(LENGTHS[symbol - 257]);
      const distance = this.offset(DISTANCES[this.symbol(distances)]);
      for (; this.filled < end; this.filled++) {
        this.result[this.filled] = this.result[this.filled - distance];
      }
    }
  }

  offset({ base, extra }) {
    return base + this.bits(extra);
  }
}

// The text in an element, unpacked from base64 and gzip.
function inflated(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return new TextDecoder().decode(new Inflater(bytes).run());
}
