// Random numbers that a seed decides, and a fixed set of noise that fills the cube evenly.

(function (explorer) {
  "use strict";

  // Mulberry32: 32 bits of state, uniform on (0, 1). Good enough for a picture, not for a record.
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
    };
  }

  const gumbel = (uniform) => -Math.log(-Math.log(uniform));

  // Standard Gumbel numbers at the points of an additive recurrence (Roberts 2018): multiples of
  // the powers of 1 / x, where x is the positive root of x^(K + 1) = x + 1, modulo 1.
  function gumbelPoints(count, categories) {
    let root = 1.5;
    for (let k = 0; k < 60; k += 1) root = (1 + root) ** (1 / (categories + 1));
    return Array.from({ length: count }, (_, n) =>
      Array.from({ length: categories }, (_, k) => gumbel((0.5 + (n + 1) / root ** (k + 1)) % 1)),
    );
  }

  explorer.random = Object.freeze({ generator, gumbel, gumbelPoints });
})((globalThis.ilsExplorer ??= {}));
