//! The learning curves as a figure.

use crate::EvalError;
use crate::taste_runs::{AFTER, UserResult, mean, over_users};
use plotters::prelude::*;
use std::path::Path;

/// Held-out AUC of every learnable user over thumbs, and their mean.
///
/// # Errors
/// `Figure` when it cannot be drawn.
pub fn learning_curves(results: &[UserResult], path: &Path) -> Result<(), EvalError> {
    draw(results, path).map_err(|error| EvalError::Figure(error.to_string()))
}

fn draw(results: &[UserResult], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (720, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart =
        ChartBuilder::on(&root).margin(16).x_label_area_size(36).y_label_area_size(48).build_cartesian_2d(20.0..105.0, 0.4..1.0)?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("thumbs").y_desc("held-out AUC").draw()?;
    for result in results.iter().filter(|result| result.user.learnable()) {
        let points = AFTER.iter().zip(&result.auc).map(|(n, auc)| (*n as f64, mean(auc)));
        chart.draw_series(LineSeries::new(points, RGBColor(150, 165, 190)))?;
    }
    let middle = AFTER.iter().enumerate().map(|(at, n)| (*n as f64, over_users(results, |result| mean(&result.auc[at])).0.mean));
    chart.draw_series(LineSeries::new(middle, RGBColor(20, 60, 130).stroke_width(3)))?;
    let targets = [(25.0, 0.70), (50.0, 0.78), (100.0, 0.85)];
    chart.draw_series(LineSeries::new(targets, RGBColor(190, 70, 40).stroke_width(2)))?;
    root.present()?;
    Ok(())
}
