//! Use cases: everything that a surface can do, the job queue and the events
