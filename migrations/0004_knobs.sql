-- Knobs that a command turned stand among the decisions, as kinds learning-rate and batch-size.

-- The peak learning rate, or sequences of a step; null for decisions of other kinds.
alter table decision add column value float8;
