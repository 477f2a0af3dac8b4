//! The web page and its API, over a [`Backend`] that the application supplies. The only crate that
//! knows axum. It holds no state of its own: what it shows, the backend reads; what it is asked, the
//! backend writes down for a worker to obey.

mod api;
mod backend;
mod connections;
mod door;
mod error;
mod guard;
mod live;
mod page;
mod query;
mod server;
mod token;
mod views;

pub use backend::{Answer, Backend, BackendError};
pub use door::{Door, PublicUrl};
pub use error::ServeError;
pub use page::page_is_built;
pub use server::{DEFAULT_ADDRESS, router, serve};
pub use token::Token;
pub use views::*;
