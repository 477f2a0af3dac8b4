//! The whole product through the real binary: real text, real components, a real private Postgres, a
//! real browser.

mod admission;
mod after_the_end;
mod again;
mod anchors;
mod archives;
mod attempts;
mod bad_input;
mod costs;
mod data;
mod demo;
mod ends;
mod examples;
mod forgeries;
mod generate;
mod hold;
mod hostile;
mod hugging_face;
mod keeping;
mod limits;
mod page;
mod place;
mod service;
mod signals;
mod steering;
mod taken_up;
mod tampering;
mod torture;
mod views;
mod weights;
mod whole_loop;
