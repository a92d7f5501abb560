//! The bearer token of one server start.

use domain::ApiError;
use subtle::ConstantTimeEq;

/// 256 random bits in hex, fresh at every start, never stored.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// # Errors
    /// `Internal` when the system gives no random numbers.
    pub fn fresh() -> Result<Self, ApiError> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(ApiError::internal)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares in constant time, so that the time of a refusal tells nothing about the token.
    pub(crate) fn matches(&self, offered: &str) -> bool {
        self.0.as_bytes().ct_eq(offered.as_bytes()).into()
    }
}

/// Never shows the secret, not even in a log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_256_bits_and_differ() {
        let (one, two) = (Token::fresh().unwrap(), Token::fresh().unwrap());
        assert_eq!(one.as_str().len(), 64, "32 bytes in hex");
        assert!(!one.matches(two.as_str()) && one.matches(one.as_str()), "only the same token matches");
        assert!(!one.matches("") && !one.matches(&one.as_str()[..63]), "a prefix is not the token");
    }
}
