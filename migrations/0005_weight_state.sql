-- What the weights were at the steps at which a plugin asked: per kind of parameter and layer the
-- standard deviation about 0 and the L2 norm of the elements. What a model has once has layer 0.

create table weight_state (
    run_id  uuid   not null references run,
    attempt bigint not null,
    -- The step after whose update they were measured.
    step    bigint not null,
    kind    text   not null,
    layer   bigint not null,
    seq     bigint not null,
    std     float8 not null,
    norm    float8 not null,
    primary key (run_id, attempt, step, kind, layer)
);
