-- What people read: tables derived from the log, written in the append transaction and recreated from
-- it by rebuild. Nothing here is hashed. Every row names the event it came from where it is one event.

create table run (
    run_id       uuid   primary key references run_head,
    name         text   not null,
    spec         jsonb  not null,
    domains      text[] not null,
    steps        bigint not null,
    environment  jsonb  not null,
    parent       jsonb,
    started_at   bigint not null,
    -- Of the newest event: silence shows as its age.
    last_at      bigint not null,
    attempt      bigint not null,
    -- The next step to train.
    next_step    bigint not null default 0,
    tokens       bigint not null default 0,
    state        text   not null check (state in ('running', 'paused', 'interrupted', 'ended')),
    -- completed, stopped, halted or failed; null until the run ended.
    ending       text,
    reason       text
);
create index run_name on run (name, started_at);

-- One row per step, with arrays over the run's domains in their order.
create table step_metric (
    run_id          uuid   not null references run,
    attempt         bigint not null,
    step            bigint not null,
    seq             bigint not null,
    recorded_at     bigint not null,
    tokens          bigint not null,
    learning_rate   float8 not null,
    loss            float8 not null,
    gradient_norm   float8 not null,
    effective_clip  float8 not null,
    verdict         text   not null,
    step_us         bigint not null,
    mixture_version bigint not null,
    sequences       bigint[] not null,
    loss_sums       float8[] not null,
    loss_tokens     bigint[] not null,
    primary key (run_id, attempt, step),
    check (cardinality(sequences) = cardinality(loss_sums) and cardinality(loss_sums) = cardinality(loss_tokens))
);

-- The same in long form: one row per step and domain.
create view step_metric_domain as
    select m.run_id, m.attempt, m.step, (u.position - 1) as domain, r.domains[u.position] as name,
           u.sequences, u.loss_sum, u.tokens, u.loss_sum / nullif(u.tokens, 0) as loss
    from step_metric m join run r using (run_id),
         unnest(m.sequences, m.loss_sums, m.loss_tokens) with ordinality as u(sequences, loss_sum, tokens, position);

-- Level L at bucket b sums steps [b * 2^L, (b + 1) * 2^L). Written when complete, from its two halves
-- (level 3 from its eight steps), always in the same order: the same log gives the same bits.
create table step_rollup (
    run_id            uuid     not null references run,
    attempt           bigint   not null,
    level             smallint not null check (level >= 3),
    bucket            bigint   not null,
    -- Finite losses only; the others are counted by their absence.
    loss_sum          float8   not null,
    loss_count        bigint   not null,
    loss_min          float8,
    loss_max          float8,
    gradient_norm_max float8   not null,
    learning_rate     float8   not null,
    step_us           bigint   not null,
    sequences         bigint[] not null,
    loss_sums         float8[] not null,
    loss_tokens       bigint[] not null,
    primary key (run_id, attempt, level, bucket)
);

create function add_arrays(a float8[], b float8[]) returns float8[] language sql immutable as $$
    select array_agg(x + y order by position) from unnest(a, b) with ordinality as u(x, y, position)
$$;
create function add_arrays(a bigint[], b bigint[]) returns bigint[] language sql immutable as $$
    select array_agg(x + y order by position) from unnest(a, b) with ordinality as u(x, y, position)
$$;

-- Writes every roll-up that step p_step completes.
create function roll_up(p_run uuid, p_attempt bigint, p_step bigint) returns void language plpgsql as $$
declare
    l smallint := 3;
    m step_metric;
    r step_rollup;
    half step_rollup;
begin
    if (p_step + 1) % 8 <> 0 then
        return;
    end if;
    r.run_id := p_run;
    r.attempt := p_attempt;
    r.loss_sum := 0; r.loss_count := 0; r.gradient_norm_max := 0; r.step_us := 0;
    for m in select * from step_metric where run_id = p_run and attempt = p_attempt
             and step between p_step - 7 and p_step order by step loop
        -- A step is the first of its eight, or the bucket is not complete (a rollback into its middle).
        if r.sequences is null then
            if m.step <> p_step - 7 then
                return;
            end if;
            r.sequences := m.sequences; r.loss_sums := m.loss_sums; r.loss_tokens := m.loss_tokens;
        else
            r.sequences := add_arrays(r.sequences, m.sequences);
            r.loss_sums := add_arrays(r.loss_sums, m.loss_sums);
            r.loss_tokens := add_arrays(r.loss_tokens, m.loss_tokens);
        end if;
        if m.loss <> 'NaN' and abs(m.loss) <> 'Infinity' then
            r.loss_sum := r.loss_sum + m.loss;
            r.loss_count := r.loss_count + 1;
            r.loss_min := least(r.loss_min, m.loss);
            r.loss_max := greatest(r.loss_max, m.loss);
        end if;
        r.gradient_norm_max := greatest(r.gradient_norm_max, m.gradient_norm);
        r.learning_rate := m.learning_rate;
        r.step_us := r.step_us + m.step_us;
    end loop;
    r.level := l;
    r.bucket := p_step / 8;
    insert into step_rollup select r.*;
    while r.bucket % 2 = 1 loop
        select * into half from step_rollup where run_id = p_run and attempt = p_attempt
            and level = r.level and bucket = r.bucket - 1;
        if not found then
            return;
        end if;
        r.loss_sum := half.loss_sum + r.loss_sum;
        r.loss_count := half.loss_count + r.loss_count;
        r.loss_min := least(half.loss_min, r.loss_min);
        r.loss_max := greatest(half.loss_max, r.loss_max);
        r.gradient_norm_max := greatest(half.gradient_norm_max, r.gradient_norm_max);
        r.step_us := half.step_us + r.step_us;
        r.sequences := add_arrays(half.sequences, r.sequences);
        r.loss_sums := add_arrays(half.loss_sums, r.loss_sums);
        r.loss_tokens := add_arrays(half.loss_tokens, r.loss_tokens);
        r.level := r.level + 1;
        r.bucket := r.bucket / 2;
        insert into step_rollup select r.*;
    end loop;
end $$;

-- Everything that was decided about the data: mixtures, loss weights, refusals; by plugin or by hand.
create table decision (
    run_id         uuid   not null references run,
    seq            bigint not null,
    -- Several may stand in one event: receipt and effect within it.
    receipt        bigint not null,
    effect         bigint not null,
    attempt        bigint not null,
    step           bigint not null,
    -- Null when it was made by hand.
    binding        bigint,
    kind           text   not null,
    version        bigint,
    effective_step bigint,
    shares         float8[],
    rules          text[] not null,
    reason         text   not null,
    issued_by      text,
    primary key (run_id, seq, receipt, effect)
);

create table finding (
    run_id         uuid   not null references run,
    seq            bigint not null,
    receipt        bigint not null,
    position       bigint not null,
    attempt        bigint not null,
    step           bigint not null,
    binding        bigint not null,
    kind           text   not null,
    severity       text   not null,
    score          float8 not null,
    threshold      float8 not null,
    domains        bigint[] not null,
    evidence       text   not null,
    recommendation text   not null,
    primary key (run_id, seq, receipt, position)
);

create table checkpoint (
    run_id  uuid   not null references run,
    seq     bigint not null,
    attempt bigint not null,
    step    bigint not null,
    digest  bytea  not null,
    folder  text   not null,
    bytes   bigint not null,
    primary key (run_id, seq)
);

create table binding (
    run_id      uuid    not null references run,
    binding     bigint  not null,
    seq         bigint  not null,
    plugin      bytea   not null,
    name        text    not null,
    version     text    not null,
    world       text    not null,
    role        text    not null,
    config      jsonb   not null,
    since_step  bigint  not null,
    state       text    not null check (state in ('bound', 'released', 'quarantined')),
    primary key (run_id, binding)
);

create table validation (
    run_id      uuid     not null references run,
    seq         bigint   not null,
    attempt     bigint   not null,
    step        bigint   not null,
    loss_sums   float8[] not null,
    loss_tokens bigint[] not null,
    primary key (run_id, seq)
);
