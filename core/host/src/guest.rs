//! What the host keeps for one call, and the one function that a plugin may call: `log`.

use hm_domain::id::Digest;
use hm_domain::plugin::Limits;
use wasmtime::component::{Linker, WasmStr};
use wasmtime::{Engine, StoreContextMut};

use crate::bounds::Bounds;
use crate::v0_1_0::Level;

/// Fuel that a line costs beside its bytes. The price is part of every fuel number, so that a guest
/// which only logs runs out of fuel and not into the watchdog.
pub(crate) const LOG_FUEL: u64 = 1_000;

/// One call's part of the store.
pub(crate) struct Guest {
    pub(crate) bounds: Bounds,
    plugin: Digest,
    log_bytes_left: usize,
}

impl Guest {
    pub(crate) fn new(plugin: Digest, limits: &Limits) -> Guest {
        let log_bytes_left = limits.log_bytes_max as usize;
        Guest { bounds: Bounds::new(limits), plugin, log_bytes_left }
    }

    /// Tells what still fits into the call's allowance; the rest is dropped.
    fn log(&mut self, level: Level, message: &str) {
        if self.log_bytes_left == 0 {
            return;
        }
        let fits = message.floor_char_boundary(self.log_bytes_left);
        // A line is a byte of its own, or empty lines would be free. After a line that was cut comes
        // nothing more, though something short might fit: what is told is a beginning.
        let cut = fits < message.len();
        self.log_bytes_left = if cut { 0 } else { self.log_bytes_left.saturating_sub(fits + 1) };
        // Escaped: a plugin's text must not control anybody's terminal.
        let text = &message[..fits];
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
        };
        tracing::debug!(target: "plugin", plugin = %self.plugin.short(), level, ?text);
    }
}

/// Everything a component can be linked to.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    linker.root().func_wrap(
        "log",
        |mut store: StoreContextMut<'_, Guest>, (level, message): (Level, WasmStr)| {
            let message = message.to_str(&store)?.into_owned();
            let price = LOG_FUEL + message.len() as u64;
            let left = store.get_fuel()?.saturating_sub(price);
            store.set_fuel(left)?;
            store.data_mut().log(level, &message);
            Ok(())
        },
    )?;
    Ok(linker)
}
