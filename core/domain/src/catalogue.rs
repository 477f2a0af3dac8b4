//! The columns a plugin may ask for. The catalogue grows; a name never changes its meaning.
//!
//! Most columns have a value per domain. The weight columns, `weight_std.KIND` and `weight_norm.KIND`,
//! have one per layer, and are there only in the observations of steps at which they were measured.

use crate::event::KindState;

/// What the values of a column run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// The run's domains, in their order.
    Domain,
    /// The model's blocks, from the first; one value for what a model has once.
    Layer,
}

/// One column of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// What a plugin asks for.
    pub name: &'static str,
    /// What a value is, with its unit.
    pub meaning: &'static str,
    /// Whether this engine fills it.
    pub filled: bool,
    /// What its values run over.
    pub per: Per,
}

const fn column(name: &'static str, meaning: &'static str, filled: bool) -> CatalogueEntry {
    CatalogueEntry { name, meaning, filled, per: Per::Domain }
}

const fn weight_std(name: &'static str) -> CatalogueEntry {
    let meaning = "standard deviation about 0 (root mean square) of the kind's elements, per layer";
    CatalogueEntry { name, meaning, filled: true, per: Per::Layer }
}

const fn weight_norm(name: &'static str) -> CatalogueEntry {
    let meaning = "L2 norm of the kind's elements, per layer";
    CatalogueEntry { name, meaning, filled: true, per: Per::Layer }
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
    weight_std("weight_std.q_proj"),
    weight_std("weight_std.k_proj"),
    weight_std("weight_std.v_proj"),
    weight_std("weight_std.o_proj"),
    weight_std("weight_std.gate_proj"),
    weight_std("weight_std.up_proj"),
    weight_std("weight_std.down_proj"),
    weight_std("weight_std.input_layernorm"),
    weight_std("weight_std.post_attention_layernorm"),
    weight_std("weight_std.q_norm"),
    weight_std("weight_std.k_norm"),
    weight_std("weight_std.embed_tokens"),
    weight_std("weight_std.norm"),
    weight_std("weight_std.lm_head"),
    weight_norm("weight_norm.q_proj"),
    weight_norm("weight_norm.k_proj"),
    weight_norm("weight_norm.v_proj"),
    weight_norm("weight_norm.o_proj"),
    weight_norm("weight_norm.gate_proj"),
    weight_norm("weight_norm.up_proj"),
    weight_norm("weight_norm.down_proj"),
    weight_norm("weight_norm.input_layernorm"),
    weight_norm("weight_norm.post_attention_layernorm"),
    weight_norm("weight_norm.q_norm"),
    weight_norm("weight_norm.k_norm"),
    weight_norm("weight_norm.embed_tokens"),
    weight_norm("weight_norm.norm"),
    weight_norm("weight_norm.lm_head"),
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

/// Whether a column of this name has a value per layer: the weights are measured for it.
pub fn is_per_layer(name: &str) -> bool {
    CATALOGUE.iter().any(|entry| entry.name == name && entry.per == Per::Layer)
}

/// A weight column's values in what was measured; none for any other column, or a kind that the model
/// does not have.
pub fn weight_values<'a>(name: &str, kinds: &'a [KindState]) -> Option<&'a [f64]> {
    let (column, kind) = name.split_once('.')?;
    let found = kinds.iter().find(|found| found.kind == kind)?;
    match column {
        "weight_std" => Some(&found.std),
        "weight_norm" => Some(&found.norm),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter_kind::PARAMETER_KINDS;

    #[test]
    fn every_kind_of_parameter_has_both_columns_and_no_other_has_any() {
        let mut due: Vec<String> = Vec::new();
        for column in ["weight_std", "weight_norm"] {
            due.extend(PARAMETER_KINDS.iter().map(|kind| format!("{column}.{}", kind.name)));
        }
        let found = CATALOGUE.iter().filter(|entry| entry.per == Per::Layer);
        assert_eq!(found.map(|entry| entry.name).collect::<Vec<_>>(), due);
        assert!(is_per_layer("weight_std.q_proj") && !is_per_layer("loss_sum"));
    }

    #[test]
    fn weight_columns_find_their_kind() {
        let mut kind = KindState::new("q_proj");
        kind.push(36.0, 4);
        let kinds = [kind];
        assert_eq!(weight_values("weight_std.q_proj", &kinds), Some(&[3.0][..]));
        assert_eq!(weight_values("weight_norm.q_proj", &kinds), Some(&[6.0][..]));
        for absent in ["weight_std.q_norm", "loss_sum", "q_proj", "loss.q_proj"] {
            assert_eq!(weight_values(absent, &kinds), None, "{absent}");
        }
    }

    #[test]
    fn unfilled_and_unknown_columns_are_refused_apart() {
        let check = |name: &str| check_columns(&[name.to_owned()]);
        assert_eq!(check("loss_sum"), Ok(()));
        assert_eq!(check("entropy_sum"), Err(ColumnRefused::NotFilled("entropy_sum".into())));
        assert_eq!(check("loss"), Err(ColumnRefused::Unknown("loss".into())));
    }
}
