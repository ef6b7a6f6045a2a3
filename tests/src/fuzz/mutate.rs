//! Small changes of seeds, the same for the same random numbers.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// Bytes that often mean something.
const TELLING: &[u8] = b"\0\n\r\t \"\\/:@?#&=%,;.{}[]-_019azAZ\x7f\x80\xbf\xc3\xe2\xed\xf0\xff";

/// No longer than this: as fast as it is short.
const LONGEST: usize = 1 << 16;

/// One of the seeds after one to four changes: bytes set, added, removed or doubled, and pieces of other seeds.
///
/// # Panics
/// If there is no seed.
pub fn changed(random: &mut StdRng, seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
    let pick = |random: &mut StdRng| &seeds.choose(random).expect("there are seeds").1;
    let mut bytes = pick(random).clone();
    for _ in 0..random.random_range(1..=4) {
        let begin = random.random_range(0..=bytes.len());
        let end = random.random_range(begin..=bytes.len().min(begin + 12));
        match random.random_range(0..6) {
            0 if begin < bytes.len() => bytes[begin] ^= 1 << random.random_range(0..8),
            1 if begin < bytes.len() => bytes[begin] = *TELLING.choose(random).expect("not empty"),
            0..=2 => bytes.insert(begin, *TELLING.choose(random).expect("not empty")),
            3 => drop(bytes.drain(begin..end)),
            4 => {
                let piece = bytes[begin..end].to_vec();
                bytes.splice(begin..begin, piece);
            }
            _ => {
                let other = pick(random);
                let from = random.random_range(0..=other.len());
                let to = random.random_range(from..=other.len().min(from + 40));
                bytes.splice(begin..end, other[from..to].iter().copied());
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}
