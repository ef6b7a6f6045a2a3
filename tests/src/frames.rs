//! The messages of Postgres's protocol in a stream of bytes.

/// What a message that begins a connection is counted as: it has no letter of its own.
pub const STARTUP: u8 = 0;

/// One direction of a connection without TLS, cut into messages whatever the pieces are that it comes in.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Whether the next message has a letter before its length.
    has_letter: bool,
    /// The letter and the length so far.
    head: Vec<u8>,
    /// What is left of the message whose head was seen.
    left: usize,
}

impl Frames {
    /// From the beginning of a connection; the client's first message has no letter.
    pub(crate) fn new(of_client: bool) -> Self {
        Self {
            has_letter: !of_client,
            head: Vec::with_capacity(5),
            left: 0,
        }
    }

    /// Tells the letter of each message that begins in these bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut begins: impl FnMut(u8)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let Some((first, rest)) = bytes.split_first() else {
                return;
            };
            self.head.push(*first);
            bytes = rest;
            let letters = usize::from(self.has_letter);
            if let Ok(length) = <[u8; 4]>::try_from(&self.head[letters.min(self.head.len())..]) {
                begins(if self.has_letter { self.head[0] } else { STARTUP });
                // The length counts itself.
                self.left = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.head.clear();
                self.has_letter = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_in_pieces_of_any_size() {
        let mut stream = vec![0, 0, 0, 9, 0, 3, 0, 0, b'x'];
        for (letter, body) in [(b'P', 300_usize), (b'S', 0), (b'S', 0), (b'Q', 1)] {
            stream.push(letter);
            stream.extend_from_slice(&u32::try_from(body + 4).unwrap().to_be_bytes());
            stream.resize(stream.len() + body, b'S');
        }
        for size in [1, 2, 3, 5, 7, stream.len()] {
            let mut frames = Frames::new(true);
            let mut seen = Vec::new();
            for piece in stream.chunks(size) {
                frames.feed(piece, |letter| seen.push(letter));
            }
            assert_eq!(seen, [STARTUP, b'P', b'S', b'S', b'Q'], "pieces of {size}");
        }
    }
}
