//! The loss chart of a run as SVG or PNG, in the app's own paper and ink.

use base64::Engine as _;
use domain::{ApiError, ChartFormat, ChartImage, Metric, Run};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use std::sync::Once;

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 640;
const PAPER: RGBColor = RGBColor(255, 253, 247);
const LINE: RGBColor = RGBColor(224, 216, 199);
const INK: RGBColor = RGBColor(35, 32, 27);
const SOFT: RGBColor = RGBColor(107, 99, 85);
const ACCENT: RGBColor = RGBColor(47, 79, 125);

/// The face of all labels: Inter, Latin part, shipped so that a picture looks the same on every machine.
const FONT: &[u8] = include_bytes!("../../../../assets/fonts/Inter-Latin.ttf");
const FACE: &str = "Inter";

/// Points drawn at most for each line; a picture of 1200 pixels shows no more.
const MOST_POINTS: usize = 1500;

static REGISTERED: Once = Once::new();

/// Draws train loss and held-out loss over steps.
pub(crate) fn draw(run: &Run, metrics: &[Metric], format: ChartFormat) -> Result<ChartImage, ApiError> {
    // The drawing library keeps fonts in a table of the process; the same bytes are registered once.
    REGISTERED.call_once(|| {
        if register_font(FACE, FontStyle::Normal, FONT).is_err() {
            tracing::error!("the chart font could not be registered");
        }
    });
    let (mime, extension, bytes) = match format {
        ChartFormat::Svg => {
            let mut text = String::new();
            plot(run, metrics, SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area())?;
            ("image/svg+xml", "svg", text.into_bytes())
        }
        ChartFormat::Png => ("image/png", "png", png(run, metrics)?),
    };
    Ok(ChartImage {
        file_name: format!("{}.{extension}", run.run_id),
        mime: mime.to_owned(),
        base64: base64::engine::general_purpose::STANDARD.encode(bytes),
    })
}

fn png(run: &Run, metrics: &[Metric]) -> Result<Vec<u8>, ApiError> {
    let mut pixels = vec![0; (WIDTH * HEIGHT * 3) as usize];
    plot(run, metrics, BitMapBackend::with_buffer(&mut pixels, (WIDTH, HEIGHT)).into_drawing_area())?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).map_err(ApiError::internal)?;
    Ok(bytes)
}

fn plot<B: DrawingBackend>(run: &Run, metrics: &[Metric], area: DrawingArea<B, plotters::coord::Shift>) -> Result<(), ApiError> {
    let points = |value: fn(&Metric) -> Option<f64>| -> Vec<(f64, f64)> {
        metrics.iter().filter_map(|metric| Some((f64::from(metric.step), value(metric)?))).filter(|(_, loss)| loss.is_finite()).collect()
    };
    let train = thinned(points(|metric| Some(metric.loss)));
    let heldout = thinned(points(|metric| metric.heldout_loss));
    let losses = || train.iter().chain(&heldout).map(|(_, loss)| *loss);
    let (low, high) = (losses().fold(f64::INFINITY, f64::min), losses().fold(f64::NEG_INFINITY, f64::max));
    let margin = ((high - low) * 0.08).max(0.01);
    let last = metrics.iter().map(|metric| metric.total_steps.max(metric.step)).max().unwrap_or(1);
    let draw = || -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        area.fill(&PAPER)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(28)
            .caption(format!("Loss of {}, {} texts", run.run_id, run.samples), (FACE, 26).into_font().color(&INK))
            .x_label_area_size(54)
            .y_label_area_size(78)
            .build_cartesian_2d(0.0..f64::from(last.max(1)), (low - margin)..(high + margin))?;
        chart
            .configure_mesh()
            .light_line_style(PAPER)
            .bold_line_style(LINE)
            .axis_style(LINE)
            .label_style((FACE, 18).into_font().color(&SOFT))
            .x_desc("step")
            .y_desc("cross-entropy a token")
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_label_formatter(&|loss| format!("{loss:.2}"))
            .draw()?;
        let legend = |color: RGBColor| move |(x, y): (i32, i32)| PathElement::new(vec![(x, y), (x + 28, y)], color.stroke_width(3));
        chart.draw_series(LineSeries::new(train.iter().copied(), ACCENT.stroke_width(3)))?.label("training").legend(legend(ACCENT));
        if !heldout.is_empty() {
            chart
                .draw_series(DashedLineSeries::new(heldout.iter().copied(), 8, 6, SOFT.stroke_width(3)))?
                .label("held out")
                .legend(legend(SOFT));
        }
        chart.configure_series_labels().background_style(PAPER).border_style(LINE).label_font((FACE, 18).into_font().color(&INK)).draw()?;
        area.present()
    };
    draw().map_err(|error| ApiError::internal(format!("the chart could not be drawn: {error}")))
}

/// Every k-th point and the last.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.into_iter().enumerate().filter(|(index, _)| index % every == 0 || *index == last).map(|(_, point)| point).collect()
}
