//! `persist serve`: the store as pages.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use persist_page::{Connections, LOOPBACK, Options};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::{signals, talk};

pub(crate) const AFTER_HELP: &str = "\
Prints the address and serves until SIGINT or SIGTERM. It never writes, creates or migrates; a store
that is away, or has no schema yet, is shown as such, and is there as soon as it answers.

Nobody is asked who they are. On a loopback address only this machine's users reach it, and only by
the names of this machine and those of --host. To let others in, put a proxy with TLS and a login
before it, and name its host here:
  persist serve --host ci.example.org

Pages: / /jobs/ID /vms /orphans /stats /health. The same as JSON: /api/v1/jobs, /api/v1/jobs/ID, and
so on; /api/v1/refusals, /api/v1/events (server-sent events). Probes: /healthz, /readyz, /metrics.

Example: the pages of a store on another port
  persist --database-url sqlite://ci.db serve --listen 127.0.0.1:9000";

/// Histograms of times, in seconds: a point read takes less than one of these, a slow page more than the last but two.
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
/// How often what histograms have taken in is put together, so that nothing piles up where nobody asks for metrics.
const UPKEEP: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Listen on an address that others reach: everybody who does sees everything
    #[arg(long)]
    public: bool,
    /// Answer to this host too, repeated or with commas: the name of a proxy before this. With --public any is answered
    /// unless some are named
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = host_name)]
    host: Vec<String>,
    /// Most live streams at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    subscribers: u16,
}

impl ServeArgs {
    /// # Errors
    /// An address that others reach, without the word that this is meant.
    fn options(&self) -> Result<Options, Failure> {
        let options = Options::default().subscribers(usize::from(self.subscribers));
        let named = self.host.iter().cloned();
        if self.listen.ip().is_loopback() {
            let own = LOOPBACK
                .map(str::to_owned)
                .into_iter()
                .chain([host_of(self.listen)]);
            return Ok(options.hosts(own.chain(named)));
        }
        if !self.public {
            let what = format!(
                "{} can be reached by others, and whoever reaches it sees everything: add --public if that is meant",
                self.listen
            );
            return Err(Failure::told(Code::Usage, what));
        }
        talk::say(&format!(
            "WARNING: there is no authentication and no encryption: everybody who reaches {} sees every job, VM, path and reason",
            self.listen
        ));
        Ok(if self.host.is_empty() {
            options
        } else {
            options.hosts(named)
        })
    }
}

/// # Errors
/// What no `Host` would ever be equal to: every request would be refused.
fn host_name(text: &str) -> Result<String, String> {
    let name = text.trim().trim_end_matches('.');
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_address = address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let is_strange = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if is_address || !(name.is_empty() || name.contains(is_strange)) {
        return Ok(name.to_owned());
    }
    Err("must be a name or an address alone, such as ci.example.org or [2001:db8::1], without a scheme, a port or a path: \
         whatever port is asked for is answered"
        .to_owned())
}

/// As a browser names it.
fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

pub(crate) async fn run(args: ServeArgs, context: &mut Context) -> Result<Code, Failure> {
    let options = args.options()?;
    // Before the store is opened, which takes its metrics from what is there then.
    let metrics = recorder()?;
    let cannot = |error| Failure::told(Code::Failed, format!("can't listen on {}: {error}", args.listen));
    let listener = TcpListener::bind(args.listen).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    let mut stop = signals::listen()?;
    let opening = context.database.to_look_at();
    let persist = tokio::select! {
        persist = opening => persist?,
        _ = stop.wait_for(Option::is_some) => return Ok(Code::Ok),
    };
    context.out.line(&format!("http://{address}/"))?;
    context.out.flush()?;
    let (ending, ended) = watch::channel(false);
    let render = metrics.clone();
    let options = options.metrics(move || render.render()).ending(ended);
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            metrics.run_upkeep();
        }
    });
    let pages = persist_page::router(persist.clone(), options);
    let limits = Connections::beside(usize::from(args.subscribers));
    let served = persist_page::serve_with(listener, pages, limits, async move {
        // An error: the task that hears signals is gone, and the next one ends the program.
        let _ = stop.wait_for(Option::is_some).await;
        ending.send_replace(true);
    });
    let served = served.await;
    upkeep.abort();
    // What it served matters; a second error of letting go does not.
    let _ = persist.close().await;
    served?;
    Ok(Code::Ok)
}

fn recorder() -> Result<PrometheusHandle, Failure> {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS);
    let builder = builder.map_err(|error| Failure::told(Code::Failed, format!("no metrics: {error}")))?;
    let installed = builder.install_recorder();
    installed.map_err(|error| Failure::told(Code::Failed, format!("no metrics: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(listen: &str, public: bool) -> Result<Options, Failure> {
        let args = ServeArgs {
            listen: listen.parse().unwrap(),
            public,
            host: Vec::new(),
            subscribers: 64,
        };
        args.options()
    }

    #[test]
    fn a_host_is_a_name_alone() {
        for (text, name) in [
            ("ci.example.org", "ci.example.org"),
            ("ci.example.org.", "ci.example.org"),
            ("192.0.2.7", "192.0.2.7"),
            ("[2001:db8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(host_name(text).as_deref(), Ok(name));
        }
        for wrong in [
            "",
            "ci.example.org:8443",
            "https://ci.example.org",
            "ci.example.org/x",
            "2001:db8::1",
            "[::1]:8080",
            "me@ci",
        ] {
            let what = host_name(wrong).unwrap_err();
            assert!(what.contains("a port"), "{wrong}: {what}");
        }
    }

    #[test]
    fn others_are_let_in_only_where_that_is_said() {
        for loopback in ["127.0.0.1:8080", "127.0.0.2:0", "[::1]:8080"] {
            assert!(options(loopback, false).is_ok(), "{loopback}");
        }
        for reached in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80"] {
            let Err(Failure::Told(Code::Usage, what)) = options(reached, false) else {
                panic!("{reached}")
            };
            assert!(what.contains("--public"), "{what}");
            assert!(options(reached, true).is_ok(), "{reached}");
        }
    }
}
