//! Running a model's ONNX graph over a batch of token sequences.

use std::ffi::CString;

use ort::environment::Environment;
use ort::ep::CPU;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, Session};
use ort::value::{Outlet, Tensor, TensorElementType, ValueType};

use crate::error::{Error, Result};
use crate::model::Pooling;
use crate::model::concurrent_run;
use crate::model::manifest::{EncodingSettings, ModelFiles};
use crate::model::pooling::normalize;

/// Outputs with one vector for each text, in order of preference.
const TEXT_OUTPUTS: [&str; 4] = ["sentence_embedding", "sentence_embeddings", "embeddings", "text_embeds"];
/// Outputs with one vector for each token, in order of preference.
const TOKEN_OUTPUTS: [&str; 3] = ["last_hidden_state", "token_embeddings", "hidden_states"];

/// What an input of the graph is filled with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Input {
    TokenIds,
    AttentionMask,
    TokenTypeIds,
}

/// How the chosen output becomes vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    /// (batch, dimensions): ready.
    Text,
    /// (batch, tokens, dimensions): to be pooled.
    Token,
}

/// What becomes of the memory that a run worked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkingMemory {
    /// RelationCache, so that the next run need not ask the system for it (a seventh of the time on a CPU).
    RelationCache,
    /// Given back to the system.
    GivenBack,
}

/// Who runs a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// One thread at a time. Each run takes so many threads, the caller's among them, and works in an
    /// arena of the session.
    One { threads: usize },
    /// Any number of threads at once, each run in its caller's. They work in the C library's memory:
    /// in an arena of the session, whose buffers wander between cores, runs on four cores took a
    /// fifth longer, and waited for each other besides.
    Many,
}

/// A loaded ONNX graph that turns token ids into vectors, for several threads at once.
pub struct EncoderSession {
    session: Session,
    inputs: Vec<(CString, Input)>,
    output: CString,
    shape: Shape,
    pooling: Pooling,
    normalize: bool,
    dimensions: usize,
    callers: Callers,
}

impl EncoderSession {
    /// Loads a graph from the `bytes` of its ONNX file, or from its path where it keeps its weights
    /// in a file beside it, to be run by `callers`, and probes its dimensions with the `probe` token
    /// ids. One thread means the caller's: no thread is started.
    ///
    /// # Errors
    /// [`Error::ModelFileCorrupt`] (22P03), [`Error::UnknownInputs`] and
    /// [`Error::UnknownOutputs`] (0A000), [`Error::InferenceFailed`] (38000).
    pub fn load(
        environment: &Environment,
        files: &ModelFiles,
        bytes: &[u8],
        settings: &EncodingSettings,
        callers: Callers,
        probe: &[u32],
    ) -> Result<EncoderSession> {
        let session = build(environment, files, bytes, callers).map_err(|error| Error::ModelFileCorrupt {
            path: files.onnx.clone(),
            reason: error.to_string(),
        })?;
        let inputs = match_inputs(session.inputs())?;
        let (output, shape) = choose_output(session.outputs(), settings.output.as_deref())?;
        let mut session = EncoderSession {
            session,
            inputs,
            output,
            shape,
            pooling: settings.pooling,
            normalize: settings.normalize,
            dimensions: 0,
            callers,
        };
        session.dimensions = session.run(&[probe], WorkingMemory::GivenBack)?.len();
        Ok(session)
    }

    /// The number of dimensions of the vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Whether the graph itself pools, so that no later step of the pipeline is missing.
    pub fn pools_itself(&self) -> bool {
        self.shape == Shape::Text
    }

    /// Runs the graph once over `sequences` (none of them empty), padded to the longest, and
    /// returns their vectors one after another, `dimensions` numbers each. The memory that the run
    /// worked in is kept for the next one or given back; with many callers the C library decides.
    ///
    /// # Errors
    /// [`Error::InferenceFailed`] (38000), [`Error::UnknownOutputs`] (0A000).
    pub fn run(&self, sequences: &[&[u32]], memory: WorkingMemory) -> Result<Vec<f32>> {
        let options = self.run_options(memory).map_err(inference_failed)?;
        let batch = sequences.len();
        let width = sequences.iter().map(|sequence| sequence.len()).max().unwrap_or(0);
        let inputs = self
            .inputs
            .iter()
            .map(|(name, input)| {
                let values = fill(*input, sequences, width);
                Ok((name, Tensor::from_array(([batch, width], values))?))
            })
            .collect::<ort::Result<Vec<_>>>()
            .map_err(inference_failed)?;
        let result =
            concurrent_run::run(&self.session, &inputs, &self.output, &options).map_err(inference_failed)?;
        let (shape, values) = result.try_extract_tensor::<f32>().map_err(inference_failed)?;
        let shape: Vec<usize> = shape.iter().map(|size| *size as usize).collect();
        let mut vectors = match (self.shape, shape.as_slice()) {
            (Shape::Text, [rows, _]) if *rows == batch => values.to_vec(),
            (Shape::Token, [rows, tokens, dimensions]) if *rows == batch && *tokens == width => {
                let mut pooled = Vec::with_capacity(batch * dimensions);
                for (row, sequence) in values.chunks_exact(tokens * dimensions).zip(sequences) {
                    self.pooling.pool(row, sequence.len(), *dimensions, &mut pooled);
                }
                pooled
            }
            _ => {
                return Err(Error::UnknownOutputs {
                    found: format!(
                        "{} with shape {shape:?} for {batch} texts of {width} tokens",
                        self.output.to_string_lossy()
                    ),
                });
            }
        };
        if self.normalize {
            let dimensions = vectors.len() / batch;
            vectors.chunks_exact_mut(dimensions.max(1)).for_each(normalize);
        }
        Ok(vectors)
    }

    fn run_options(&self, memory: WorkingMemory) -> ort::Result<RunOptions> {
        let mut options = RunOptions::new()?;
        if memory == WorkingMemory::GivenBack && self.callers != Callers::Many {
            options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
        }
        Ok(options)
    }
}

fn build(
    environment: &Environment,
    files: &ModelFiles,
    bytes: &[u8],
    callers: Callers,
) -> ort::Result<Session> {
    let (threads, has_arena) = match callers {
        Callers::One { threads } => (threads, true),
        Callers::Many => (1, false),
    };
    let mut builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_execution_providers([CPU::default().with_arena_allocator(has_arena).build()])?
        // Batches differ in shape, so that a memory pattern would fit none of them.
        .with_memory_pattern(false)?
        // Weights outside the arena, which grows in powers of two and is emptied after long work.
        .with_config_entry("session.use_device_allocator_for_initializers", "1")?
        .with_config_entry("session.intra_op.allow_spinning", "0")?;
    match files.weights {
        // Only from a path does the runtime find them.
        Some(_) => builder.commit_from_file(&files.onnx),
        None => builder.commit_from_memory(bytes),
    }
}

fn match_inputs(outlets: &[Outlet]) -> Result<Vec<(CString, Input)>> {
    let inputs: Option<Vec<_>> = outlets
        .iter()
        .map(|outlet| {
            let input = match outlet.name() {
                "input_ids" => Input::TokenIds,
                "attention_mask" => Input::AttentionMask,
                "token_type_ids" => Input::TokenTypeIds,
                _ => return None,
            };
            let name = CString::new(outlet.name()).ok()?;
            is_tensor_of(outlet, TensorElementType::Int64).then_some((name, input))
        })
        .collect();
    inputs
        .filter(|inputs| inputs.iter().any(|(_, input)| *input == Input::TokenIds))
        .ok_or_else(|| Error::UnknownInputs { found: describe(outlets) })
}

/// The output to read: the one asked for, else the best of the usual names, else the only one.
fn choose_output(outlets: &[Outlet], asked: Option<&str>) -> Result<(CString, Shape)> {
    let find = |name: &&str| outlets.iter().find(|outlet| outlet.name() == *name);
    let chosen = match asked {
        Some(name) => find(&name),
        None => TEXT_OUTPUTS
            .iter()
            .find_map(find)
            .or_else(|| TOKEN_OUTPUTS.iter().find_map(find))
            .or_else(|| outlets.first().filter(|_| outlets.len() == 1)),
    };
    chosen
        .filter(|outlet| is_tensor_of(outlet, TensorElementType::Float32))
        .and_then(|outlet| {
            let shape = match outlet.dtype().tensor_shape()?.len() {
                2 => Shape::Text,
                3 => Shape::Token,
                _ => return None,
            };
            Some((CString::new(outlet.name()).ok()?, shape))
        })
        .ok_or_else(|| Error::UnknownOutputs { found: describe(outlets) })
}

fn is_tensor_of(outlet: &Outlet, element: TensorElementType) -> bool {
    matches!(outlet.dtype(), ValueType::Tensor { ty, .. } if *ty == element)
}

fn describe(outlets: &[Outlet]) -> String {
    let described: Vec<String> =
        outlets.iter().map(|outlet| format!("{} {}", outlet.name(), outlet.dtype())).collect();
    described.join(", ")
}

fn fill(input: Input, sequences: &[&[u32]], width: usize) -> Vec<i64> {
    let mut values = vec![0i64; sequences.len() * width];
    for (row, sequence) in values.chunks_exact_mut(width.max(1)).zip(sequences) {
        match input {
            Input::TokenIds => {
                for (value, id) in row.iter_mut().zip(*sequence) {
                    *value = i64::from(*id);
                }
            }
            Input::AttentionMask => row[..sequence.len()].fill(1),
            Input::TokenTypeIds => {}
        }
    }
    values
}

fn inference_failed(error: ort::Error) -> Error {
    Error::InferenceFailed { reason: error.to_string() }
}
