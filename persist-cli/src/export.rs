//! `persist export`: the history in the exchange format.

use std::pin::pin;

use futures_util::StreamExt as _;
use persist::PersistExt as _;

use crate::context::Context;
use crate::exit::{Code, Failure};

pub(crate) async fn run(context: &mut Context) -> Result<Code, Failure> {
    let backend = context.database.for_reading().await?;
    let mut lines = pin!(backend.export());
    while let Some(line) = lines.next().await.transpose()? {
        context.out.line(&line)?;
    }
    context.out.flush()?;
    backend.close().await?;
    Ok(Code::Ok)
}
