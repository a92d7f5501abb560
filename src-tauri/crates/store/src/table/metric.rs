//! The points of a run's curves, ordered by step.

use crate::{Result, Store};
use domain::{Change, Metric, RunId};
use rusqlite::{Row, params};

pub(crate) const V1: &str = "
CREATE TABLE metric (
    run_id TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    step INTEGER NOT NULL,
    total_steps INTEGER NOT NULL,
    -- NULL is NaN: a training that diverged is shown as one.
    loss REAL,
    heldout_loss REAL,
    lr REAL,
    tokens_per_second REAL,
    eta_s REAL,
    PRIMARY KEY (run_id, step)
) STRICT, WITHOUT ROWID;
";

impl Store {
    /// Stores a batch of points and announces it; a step that is there already is replaced. Not logged: a surface
    /// that missed some asks [`Store::metrics`].
    ///
    /// # Errors
    /// `NotFound` when the run is gone.
    pub fn append_metrics(&self, run_id: &RunId, metrics: &[Metric]) -> Result<()> {
        if metrics.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            super::run::require(tx, run_id)?;
            let sql = "INSERT OR REPLACE INTO metric (run_id, step, total_steps, loss, heldout_loss, lr, tokens_per_second, eta_s)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let mut insert = tx.prepare_cached(sql)?;
            for one in metrics {
                insert.execute(params![
                    run_id.0,
                    one.step,
                    one.total_steps,
                    one.loss,
                    one.heldout_loss,
                    one.lr,
                    one.tokens_per_second,
                    one.eta_s
                ])?;
            }
            tx.mention(Change::RunMetrics { run_id: run_id.clone(), metrics: metrics.to_vec() });
            Ok(())
        })
    }

    /// A run's points after step `after` (`None` = all).
    pub fn metrics(&self, run_id: &RunId, after: Option<u32>) -> Result<Vec<Metric>> {
        self.read(|tx| {
            super::run::require(tx, run_id)?;
            let mut query = tx.prepare_cached("SELECT * FROM metric WHERE run_id = ?1 AND step > ?2 ORDER BY step")?;
            let after = after.map_or(-1, i64::from);
            Ok(query.query_map(params![run_id.0, after], from_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Forgets the points after a step: a run that resumes from its checkpoint there takes those steps again.
    pub fn truncate_metrics(&self, run_id: &RunId, after_step: u32) -> Result<()> {
        self.write(|tx| {
            tx.execute("DELETE FROM metric WHERE run_id = ?1 AND step > ?2", params![run_id.0, after_step])?;
            Ok(())
        })
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Metric> {
    let figure = |name| row.get::<_, Option<f64>>(name).map(|figure| figure.unwrap_or(f64::NAN));
    Ok(Metric {
        step: row.get("step")?,
        total_steps: row.get("total_steps")?,
        loss: figure("loss")?,
        heldout_loss: row.get("heldout_loss")?,
        lr: figure("lr")?,
        tokens_per_second: figure("tokens_per_second")?,
        eta_s: figure("eta_s")?,
    })
}
