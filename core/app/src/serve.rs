//! `hm serve`: the page and its API, beside any number of workers.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use hm_serve::Token;
use hm_store::Store;
use tokio::net::TcpListener;

use crate::backend::StoreBackend;
use crate::cli::ServeArgs;
use crate::workplace::Workplace;

/// A page that is being served, until it is closed.
pub(crate) struct Page {
    /// With the token: whoever has it may write.
    pub(crate) address: String,
    close: tokio::sync::oneshot::Sender<()>,
    served: tokio::task::JoinHandle<Result<(), hm_serve::ServeError>>,
}

impl Page {
    /// Starts to serve on `listen`.
    pub(crate) fn open(
        workplace: &Workplace,
        store: &Store,
        listen: SocketAddr,
        token: Token,
    ) -> Result<Page> {
        let registry = workplace.registry(store)?;
        let backend = Arc::new(StoreBackend::new(store.clone(), registry));
        let listener = workplace.runtime.block_on(TcpListener::bind(listen)).with_context(|| {
            format!("cannot listen on {listen}; choose another address with --listen, or port 0 for a free one")
        })?;
        let address = token.address(listener.local_addr()?);
        let (close, closed) = tokio::sync::oneshot::channel();
        let until = async { closed.await.unwrap_or_default() };
        let served = workplace.runtime.spawn(hm_serve::serve(listener, backend, token, until));
        Ok(Page { address, close, served })
    }

    /// Ends open streams and waits for requests in hand.
    pub(crate) fn close(self, workplace: &Workplace) -> Result<()> {
        // An error means that serving has ended already; its reason follows.
        let _ = self.close.send(());
        workplace.runtime.block_on(self.served)??;
        Ok(())
    }
}

pub(crate) fn serve(workplace: &Workplace, args: &ServeArgs) -> Result<u8> {
    let token = match &args.token {
        Some(text) => Token::agreed(text)?,
        None => Token::random()?,
    };
    let store = workplace.store()?;
    let page = Page::open(workplace, &store, args.listen, token)?;
    if !hm_serve::page_is_built() {
        eprintln!(
            "this binary was built without the page, only the API answers; `make web` builds it"
        );
    }
    println!("{}", page.address);
    eprintln!("open this address in a browser; Ctrl-C ends the server, not the runs");
    workplace.runtime.block_on(ended())?;
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
