//! Text of the store that is shown: what would move a terminal's cursor or turn its text around is spelt out.

use std::borrow::Cow;

/// Control characters, line and paragraph separators, and what changes the direction of text or is invisible.
/// The joiners of emoji and of some scripts stay.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{feff}'
        )
        || matches!(c, '\u{2060}'..='\u{206f}')
}

/// For a line of a terminal: `\n`, `\t`, `\u{1b}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    spelt(text, |c, out| out.extend(c.escape_default()))
}

/// For JSON that is already written: such characters stand only inside of strings, where `\u` means the same.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    spelt(json, |c, out| out.push_str(&format!("\\u{:04x}", u32::from(c))))
}

/// For SQL and other text of many lines.
pub fn visible_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(visible).collect();
    lines.join("\n")
}

fn spelt(text: &str, spell: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            spell(c, &mut out);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i10_what_moves_a_terminal_is_spelt_out() {
        assert_eq!(
            visible("vm\u{1b}[31m\nred\u{7}\u{9b}2J"),
            "vm\\u{1b}[31m\\nred\\u{7}\\u{9b}2J"
        );
        assert_eq!(visible("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(visible("é 🦀 👩\u{200d}🔬 \"x\""), "é 🦀 👩\u{200d}🔬 \"x\"");
        assert_eq!(visible_lines("a\n\u{7}b"), "a\n\\u{7}b");
    }

    #[test]
    fn i10_json_means_the_same_afterwards() {
        let text = "\u{7f}\u{9b}2J\u{202e}\n\"\u{1b}";
        let json = serde_json::to_string(text).unwrap();
        let shown = visible_json(&json);
        assert!(!shown.chars().any(is_harmful), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }
}
