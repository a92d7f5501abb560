//! The table of calls: everything a surface can ask for, declared once.
//!
//! The HTTP routes, the window's command, the CLI's remote mode and the TypeScript client all derive from
//! [`for_each_call`]. To add a call: write a method of [`App`] in its noun's file, add a line here, run
//! `UPDATE_BINDINGS=1 cargo test -p inkling-app bindings`.

use crate::App;
use domain::*;
use serde::{Serialize, de::DeserializeOwned};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// One call: a name, a route, what goes in, what comes out.
pub trait Call: 'static {
    type Input: Serialize + DeserializeOwned + specta::Type + Send + 'static;
    type Output: Serialize + DeserializeOwned + specta::Type + Send + 'static;
    const NAME: &'static str;
    const METHOD: Method;
    /// Braces hold path parameters, which are fields of the input.
    const PATH: &'static str;
    /// HTTP status on success.
    const STATUS: u16;
    /// Runs the use case on this thread; it may read files and compute.
    fn run(app: &App, input: Self::Input) -> Result<Self::Output, ApiError>;
}

/// Passes the names of all calls to a macro.
#[macro_export]
macro_rules! for_each_call {
    ($then:ident) => {
        $then! {
            Status status Get "/api/v1/status" Nothing => Status, 200;
            Doctor doctor Get "/api/v1/doctor" Nothing => DoctorReport, 200;

            Settings settings Get "/api/v1/settings" Nothing => Settings, 200;
            SettingsView settings_view Get "/api/v1/settings/view" Nothing => SettingsView, 200;
            UpdateSettings update_settings Put "/api/v1/settings" SettingsUpdate => Settings, 200;
            CheckSettings check_settings Post "/api/v1/settings/check" SettingsUpdate => Settings, 200;
            MoveDataFolder move_data_folder Post "/api/v1/data-folder" DataFolderMove => Status, 200;

            Write write Post "/api/v1/write" WriteRequest => WriteResult, 200;
            CancelWrite cancel_write Post "/api/v1/generations/{generation_id}/cancel" GenerationRef => Done, 200;
            Generations generations Get "/api/v1/generations" GenerationQuery => GenerationPage, 200;
            Generation generation Get "/api/v1/generations/{generation_id}" GenerationRef => GenerationDetail, 200;
            RemoveGeneration remove_generation Delete "/api/v1/generations/{generation_id}" GenerationRef => Done, 200;
            RestoreGeneration restore_generation Post "/api/v1/generations/{generation_id}/restore" GenerationRef => Done, 200;
            ExportCandidate export_candidate Get "/api/v1/candidates/{candidate_id}/export" CandidateExport => ExportedText, 200;
            Draft draft Get "/api/v1/draft" Nothing => Draft, 200;
            SaveDraft save_draft Put "/api/v1/draft" Draft => Done, 200;

            Feedback feedback Post "/api/v1/feedback" FeedbackRequest => FeedbackResult, 200;
            Taste taste Get "/api/v1/taste" Nothing => TasteCard, 200;
            Prefer prefer Post "/api/v1/preferences" PreferenceRequest => PreferenceResult, 200;
            ScoreTaste score_taste Post "/api/v1/taste/score" TasteQuestion => TasteScore, 200;
            TasteVersions taste_versions Get "/api/v1/taste/versions" Nothing => Vec<TasteVersionRow>, 200;
            RestoreTaste restore_taste Post "/api/v1/taste/restore" TasteVersionRef => TasteCard, 200;
            TrainTaste train_taste Post "/api/v1/taste/train" TasteTraining => TasteTrained, 200;

            AutoTrain auto_train Post "/api/v1/auto-train" AutoTrainRequest => AutoTrain, 202;
            AutoTrains auto_trains Get "/api/v1/auto-train" Limit => Vec<AutoTrain>, 200;
            TrainingGenres training_genres Get "/api/v1/auto-train/genres" Nothing => TrainingGenres, 200;
            AutoTrainResult auto_train_result Get "/api/v1/auto-train/{auto_train_id}" AutoTrainRef => AutoTrainResult, 200;
            AutoTrainAttempts auto_train_attempts Get "/api/v1/auto-train/{auto_train_id}/attempts" AutoTrainRef => Vec<AutoTrainAttempt>, 200;
            Examples examples Get "/api/v1/examples" ExampleQuery => Vec<Example>, 200;
            Example example Get "/api/v1/examples/{example_id}" ExampleRef => Example, 200;
            DropExample drop_example Delete "/api/v1/examples/{example_id}" ExampleRef => Example, 200;
            RestoreExample restore_example Post "/api/v1/examples/{example_id}/restore" ExampleRef => Example, 200;
            EditExample edit_example Put "/api/v1/examples/{example_id}" ExampleEdit => Example, 200;
            TrainingStats training_stats Get "/api/v1/user/{user_id}/training-stats" UserRef => TrainingStats, 200;
            TrainPersonal train_personal Post "/api/v1/user/{user_id}/trigger-finetuning" UserRef => TrainQueued, 202;

            PlanTraining plan_training Post "/api/v1/train/plan" TrainRequest => TrainingPlan, 200;
            Train train Post "/api/v1/train" TrainRequest => TrainQueued, 202;
            ExportTraining export_training Post "/api/v1/training/export" TrainingExport => TrainingExported, 200;
            Jobs jobs Get "/api/v1/jobs" Limit => Vec<Job>, 200;
            PauseJob pause_job Post "/api/v1/jobs/{job_id}/pause" JobRef => Job, 200;
            ResumeJob resume_job Post "/api/v1/jobs/{job_id}/resume" JobRef => Job, 200;
            CancelJob cancel_job Post "/api/v1/jobs/{job_id}/cancel" JobRef => Job, 200;

            Runs runs Get "/api/v1/runs" Limit => Vec<Run>, 200;
            Run run Get "/api/v1/runs/{run_id}" RunRef => Run, 200;
            RunSearch run_search Get "/api/v1/runs/{run_id}/search" RunRef => Search, 200;
            RunMetrics run_metrics Get "/api/v1/runs/{run_id}/metrics" MetricsQuery => RunMetrics, 200;
            RunChart run_chart Get "/api/v1/runs/{run_id}/chart" ChartQuery => ChartImage, 200;
            ResumeRun resume_run Post "/api/v1/runs/{run_id}/resume" RunRef => TrainQueued, 202;
            BlindTest blind_test Post "/api/v1/runs/{run_id}/blind" BlindRequest => BlindTest, 200;
            AnswerBlind answer_blind Post "/api/v1/runs/{run_id}/blind/answer" BlindAnswer => BlindTest, 200;
            Decide decide Post "/api/v1/runs/{run_id}/decide" RunDecision => Adapter, 200;
            DeleteRun delete_run Delete "/api/v1/runs/{run_id}" RunRef => Done, 200;

            Adapters adapters Get "/api/v1/adapters" Nothing => Vec<Adapter>, 200;
            ActivateAdapter activate_adapter Post "/api/v1/adapters/{adapter_id}/activate" AdapterActivation => Adapter, 200;
            DeactivateAdapter deactivate_adapter Post "/api/v1/adapters/{adapter_id}/deactivate" AdapterRef => Adapter, 200;
            DeleteAdapter delete_adapter Delete "/api/v1/adapters/{adapter_id}" AdapterRef => Done, 200;
            ExportAdapter export_adapter Post "/api/v1/adapters/{adapter_id}/export" AdapterExport => SavedPath, 200;
            ImportAdapter import_adapter Post "/api/v1/adapters/import" AdapterImport => Adapter, 200;

            Bases bases Get "/api/v1/models" Nothing => Vec<Base>, 200;
            Catalogue catalogue Get "/api/v1/models/catalogue" Nothing => Vec<CatalogueEntry>, 200;
            PullBase pull_base Post "/api/v1/models/pull" PullRequest => PullQueued, 202;
            ImportBase import_base Post "/api/v1/models/import" BaseImport => Base, 200;
            RemoveBase remove_base Delete "/api/v1/models/{base_id}" BaseRemoval => BaseRemoved, 200;
            Member member Get "/api/v1/member" Nothing => MemberView, 200;
            SetMemberKey set_member_key Put "/api/v1/member/key" MemberKey => MemberView, 200;
        }
    };
}

macro_rules! declare {
    ($($name:ident $method_name:ident $method:ident $path:literal $input:ty => $output:ty, $status:literal;)*) => {
        /// A type per call, to name it with: `call::Write`.
        pub mod call {
            $(pub struct $name;)*
        }

        $(impl Call for call::$name {
            type Input = $input;
            type Output = $output;
            const NAME: &'static str = stringify!($method_name);
            const METHOD: Method = Method::$method;
            const PATH: &'static str = $path;
            const STATUS: u16 = $status;
            fn run(app: &App, input: Self::Input) -> Result<Self::Output, ApiError> {
                app.$method_name(input)
            }
        })*

        /// Runs a call by its name with JSON in and out, as the window does.
        ///
        /// # Errors
        /// `NotFound` for an unknown name, `InvalidInput` for input of another shape, and what the call itself returns.
        pub fn run_by_name(app: &App, name: &str, input: serde_json::Value) -> Result<serde_json::Value, ApiError> {
            match name {
                $(stringify!($method_name) => run_json::<call::$name>(app, input),)*
                _ => Err(ApiError::not_found("call", name)),
            }
        }

        /// Name, method and path of every call.
        pub const ROUTES: &[(&str, Method, &str)] = &[$((stringify!($method_name), Method::$method, $path)),*];
    };
}

for_each_call!(declare);

fn run_json<C: Call>(app: &App, input: serde_json::Value) -> Result<serde_json::Value, ApiError> {
    let input = if input.is_null() { serde_json::json!({}) } else { input };
    let input: C::Input = serde_json::from_value(input).map_err(|error| unreadable(&error))?;
    serde_json::to_value(C::run(app, input)?).map_err(ApiError::internal)
}

/// The error for input that is JSON of the wrong shape.
pub fn unreadable(error: &serde_json::Error) -> ApiError {
    ApiError::new(ErrorCode::InvalidInput, format!("This request cannot be read: {error}."))
}
