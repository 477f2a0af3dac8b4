//! The columns a plugin may ask for. The catalogue grows; a name never changes its meaning.

/// One column of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// What a plugin asks for.
    pub name: &'static str,
    /// What a value is, with its unit.
    pub meaning: &'static str,
    /// Whether this engine fills it.
    pub filled: bool,
}

const fn column(name: &'static str, meaning: &'static str, filled: bool) -> CatalogueEntry {
    CatalogueEntry { name, meaning, filled }
}

/// All columns, in the order they appear in observations.
pub const CATALOGUE: &[CatalogueEntry] = &[
    column("loss_sum", "sum of cross-entropies over the step's target tokens, nats", true),
    column("loss_square_sum", "sum of squared sequence means times tokens, nats squared", true),
    column("loss_tokens", "target tokens behind loss_sum", true),
    column("sequences", "sequences drawn in the step", true),
    column("cumulative_tokens", "target tokens drawn so far", true),
    column("epochs", "cumulative tokens over the domain's tokens", true),
    column("loss_weight", "weight of the domain's loss in the objective", true),
    column("validation_loss_sum", "sum of held-out cross-entropies, nats", true),
    column("validation_tokens", "held-out target tokens", true),
    column("reference_loss_sum", "the reference model's loss_sum, nats", false),
    column("clipped_excess_sum", "sum over tokens of max(loss - reference loss, 0), nats", false),
    column("entropy_sum", "sum of the predictions' entropies, nats", false),
    column("entropy_square_sum", "sum of their squares, nats squared", false),
    column("gradient_norm_square", "squared norm of the domain's gradient", false),
    column("gradient_noise", "trace of the gradient's covariance", false),
    column("gradient_alignment", "inner product with the target domains' gradient", false),
    column("router_load", "mean expert load, mixture-of-experts models only", false),
    column("weight_std", "standard deviation of parameters by kind", false),
    column("contamination_hits", "n-gram hits of evaluation items in served batches", false),
];

/// A column that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnRefused {
    /// Not in the catalogue.
    #[error("column `{0}` is not in the catalogue")]
    Unknown(String),
    /// In the catalogue, but this engine does not compute it yet.
    #[error("column `{0}` is in the catalogue, but this engine does not fill it yet")]
    NotFilled(String),
}

/// Checks that every column asked for is one that the engine fills.
pub fn check_columns(names: &[String]) -> Result<(), ColumnRefused> {
    for name in names {
        match CATALOGUE.iter().find(|entry| entry.name == name) {
            None => return Err(ColumnRefused::Unknown(name.clone())),
            Some(entry) if !entry.filled => return Err(ColumnRefused::NotFilled(name.clone())),
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfilled_and_unknown_columns_are_refused_apart() {
        let check = |name: &str| check_columns(&[name.to_owned()]);
        assert_eq!(check("loss_sum"), Ok(()));
        assert_eq!(check("entropy_sum"), Err(ColumnRefused::NotFilled("entropy_sum".into())));
        assert_eq!(check("loss"), Err(ColumnRefused::Unknown("loss".into())));
    }
}
