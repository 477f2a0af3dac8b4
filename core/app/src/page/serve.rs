//! `hm serve`: the page and its API, beside any number of workers.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use hm_serve::{Door, PublicUrl, Token};
use tokio::net::TcpListener;

use crate::cli::ServeArgs;
use crate::page::backend::StoreBackend;
use crate::terminal;
use crate::workplace::Workplace;

/// Connections that a page's requests share: two, so that a slow one does not hold up all others, and
/// no more, since a shared server may give its users few. Whoever finds them busy waits.
const CONNECTIONS_MAX: u32 = 2;

/// A page that is being served, until it is closed.
pub(crate) struct Page {
    /// With the token: whoever has it may write.
    pub(crate) address: String,
    /// What its owner should know of who reaches it, if more can than this machine's users.
    pub(crate) warning: Option<String>,
    close: tokio::sync::oneshot::Sender<()>,
    served: tokio::task::JoinHandle<Result<(), hm_serve::ServeError>>,
}

impl Page {
    /// Starts to serve on `listen`, also to those who come by a public address.
    pub(crate) fn open(
        workplace: &Workplace,
        listen: SocketAddr,
        token: Token,
        public: Vec<PublicUrl>,
    ) -> Result<Page> {
        let store = workplace.store_over(CONNECTIONS_MAX)?;
        let registry = workplace.registry(&store)?;
        let backend = Arc::new(StoreBackend::new(store, registry, workplace.data_dir.clone()));
        let listener = workplace.runtime.block_on(TcpListener::bind(listen)).with_context(|| {
            format!("cannot listen on {listen}; choose another address with --listen, or port 0 for a free one")
        })?;
        let door = Door { listening: listener.local_addr()?, public };
        let (address, warning) = (token.address(&door), door.warning());
        let (close, closed) = tokio::sync::oneshot::channel();
        let until = async { closed.await.unwrap_or_default() };
        let served = hm_serve::serve(listener, door, backend, token, until);
        let served = workplace.runtime.spawn(served);
        Ok(Page { address, warning, close, served })
    }

    /// Ends open streams and waits for requests in hand.
    pub(crate) fn close(self, workplace: &Workplace) -> Result<()> {
        // An error means that serving has ended already; its reason follows.
        let _ = self.close.send(());
        workplace.runtime.handle().block_on(self.served)??;
        Ok(())
    }
}

pub(crate) fn serve(workplace: &Workplace, args: &ServeArgs) -> Result<u8> {
    let token = match &args.token {
        Some(text) => Token::agreed(text)?,
        None => Token::random()?,
    };
    let page = Page::open(workplace, args.listen, token, args.public_url.clone())?;
    if !hm_serve::page_is_built() {
        eprintln!(
            "this binary was built without the page, only the API answers; `make web` builds it"
        );
    }
    println!("{}", page.address);
    terminal::flush();
    if let Some(warning) = &page.warning {
        eprintln!("{warning}");
    }
    eprintln!("open this address in a browser; Ctrl-C ends the server, not the runs");
    workplace.runtime.handle().block_on(ended())?;
    page.close(workplace)?;
    Ok(0)
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn ended() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
