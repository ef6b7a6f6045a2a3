//! A stream of rows of which the next one can be looked at.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::StreamExt as _;

use crate::error::Result;

pub(crate) struct Listing<'b, T> {
    rows: Pin<Box<dyn Stream<Item = Result<T>> + Send + 'b>>,
    next: Option<T>,
}

impl<'b, T> Listing<'b, T> {
    pub(crate) fn new(rows: impl Stream<Item = Result<T>> + Send + 'b) -> Self {
        Self {
            // It is asked again after its end.
            rows: rows.fuse().boxed(),
            next: None,
        }
    }

    pub(crate) async fn peek(&mut self) -> Result<Option<&T>> {
        if self.next.is_none() {
            self.next = self.rows.next().await.transpose()?;
        }
        Ok(self.next.as_ref())
    }

    /// The row that was looked at.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.next.take()
    }
}
