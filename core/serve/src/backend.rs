//! The port to everything behind the page. Defined here, implemented by the application over its
//! store and plugin host, so that this crate knows neither.

use futures_util::future::BoxFuture;
use hm_domain::command::Command;

use crate::views::*;

/// What every method of a [`Backend`] returns.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, BackendError>>;

/// Why the backend has no answer.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Nothing of that name or id. The sentence is shown to the caller.
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be obeyed. The sentence is shown to the caller.
    #[error("{0}")]
    Refused(String),
    /// The database is there and has no time for this. It is logged, and may be asked again.
    #[error("{0}")]
    Busy(String),
    /// Something failed inside. It is logged and never sent.
    #[error("{0}")]
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

/// Reads and writes on behalf of the page. Run ids, digests and command ids are text; an id that
/// does not parse names nothing and is [`BackendError::NotFound`].
pub trait Backend: Send + Sync + 'static {
    /// Whether the database answers.
    fn ready(&self) -> Answer<'_, ()>;

    /// All runs, those that began last first.
    fn runs(&self) -> Answer<'_, Vec<RunSummary>>;

    /// One run, or none of that id.
    fn run<'a>(&'a self, run: &'a str) -> Answer<'a, Option<RunDetail>>;

    /// Steps after `after_step` (all, if none) that led to where the run is, in step order, thinned to at
    /// most about `points_max` points.
    fn metrics<'a>(
        &'a self,
        run: &'a str,
        after_step: Option<u64>,
        points_max: u32,
    ) -> Answer<'a, Metrics>;

    /// Validations, in order.
    fn validations<'a>(&'a self, run: &'a str) -> Answer<'a, Vec<Validation>>;

    /// The newest `entries_max` entries whose `seq` is larger than `after_seq` (all, if none), oldest first.
    fn timeline<'a>(
        &'a self,
        run: &'a str,
        after_seq: Option<u64>,
        entries_max: u32,
    ) -> Answer<'a, Vec<TimelineEntry>>;

    /// `seq` of the run's newest event. Called four times a second per open page, so it must be cheap.
    fn head<'a>(&'a self, run: &'a str) -> Answer<'a, u64>;

    /// Installed plugins, by name and version.
    fn plugins(&self) -> Answer<'_, Vec<PluginSummary>>;

    /// Checks a component and installs it if every check passes. A component that fails a check is
    /// a verdict, not an error.
    fn upload_plugin<'a>(&'a self, component: Vec<u8>, by: &'a str) -> Answer<'a, UploadVerdict>;

    /// Asks the run for something: refused at once, or put in its inbox for a worker to answer at its
    /// next step boundary.
    fn command<'a>(
        &'a self,
        run: &'a str,
        command: Command,
        by: &'a str,
    ) -> Answer<'a, CommandAccepted>;
}
