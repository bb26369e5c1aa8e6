/* sema.h -- private to compiler/front/sema*.c: what the semantic analysis works with.
 *
 * A tree is executed once, at compile time. A call opens a Frame, `for` and blocks open Scopes, names hold Values; what
 * comes out on the side are tensors and Comps of the graph. One file, one idea:
 *
 *   sema.c             the two entry points, the file and its modules, -D
 *   sema_scope.c       names in sight, messages with the chain of calls behind them
 *   sema_value.c       values: how they are called in messages, numbers from values
 *   sema_eval.c        an expression to a value: numbers fold, the rest becomes an expression of the graph
 *   sema_index.c       index lists: affine maps, extents, loads
 *   sema_reduce.c      sum[i](...) and its family: each a temporary tensor
 *   sema_equation.c    equations: left side, pieces, Comps
 *   sema_argument.c    signatures, frames, arguments
 *   sema_call.c        calls: running a function, `as` scopes
 *   sema_builtin.c     built-in functions
 *   sema_exec.c        statements of a body, parameters
 *   sema_model.c       the model block: inputs, encoders, loss, state_dict order
 *   sema_block.c       data, train and eval; the tables of entries
 *   sema_continual.c   continual and the strategies
 *   sema_update.c      the optimiser's step, once gradients exist
 *
 * Whatever was wrong is a V_ERROR value: it is accepted everywhere without another word, so one mistake gives one
 * message. Everything lives in the program's arena. */
#ifndef TICC_SEMA_H
#define TICC_SEMA_H
#include "front/parse.h"
#include "front/program.h"

enum {
    EXT_ANY = -2,                   /* an extent nothing is known of: the body of a function that nobody calls */
    EXT_OPEN = -3,                  /* an extent that an access will still tell */
    MOST_STATEMENTS = 100 * 1000,   /* after unrolling, calls and rounds of loops included */
    MOST_CALLS = 64,                /* nested */
    MOST_NESTED = 2500,             /* expressions within expressions, over all nested calls */
    MOST_AXES = 31,                 /* index names of one equation, reduced ones included: bits of Expr.axes */
    MOST_FORMALS = 64,
    MOST_TERMS = 20 * 1000,         /* of one expression */
    MOST_PIECES = 4096,             /* equations for one tensor */
};
#define MOST_ELEMENTS ((int64_t)1 << 31)                       /* of one parameter */
#define MOST_TENSOR ((int64_t)1 << 40)                         /* of any other tensor, for one of the batch */

typedef struct Sema Sema;
typedef struct Scope Scope;
typedef struct Frame Frame;
typedef struct Module Module;
typedef struct Eq Eq;

/* ---- values */

typedef enum ValueKind {
    V_ERROR,                        /* reported already */
    V_NUM,
    V_BOOL,
    V_STR,
    V_LIST,
    V_RANGE,
    V_DIST,                         /* uniform(..), normal(..) */
    V_FN,
    V_TENSOR,                       /* whole, not indexed */
    V_EXPR,                         /* a number known at run time, perhaps one for each point of the equation's axes */
} ValueKind;

typedef struct Piece {
    Box box[MAX_RANK];
    Span at;
} Piece;

/* A tensor by its defining equations. */
typedef struct Def {
    int tensor;                     /* of the graph */
    const char *name;
    Span at;
    int rank;
    Ext shape[MAX_RANK];
    bool open;                      /* equations may add pieces until it is read */
    bool busy;                      /* an equation for it is being read */
    bool broken;                    /* an equation for it was wrong */
    bool integer;
    ARRAY(Piece) piece;
} Def;

typedef struct Closure {
    const char *name;
    const Node *node;               /* FN, optimizer BLOCK, or what a function-valued argument was written as */
    const Node *formals;            /* chain of FORMAL, or of NAME (weight_decay(p)) */
    const Node *value, *body;       /* one of them */
    Scope *home;                    /* names its text sees */
    Span at;                        /* of its name */
    bool optimizer, model;
    bool called;
} Closure;

typedef struct Value {
    ValueKind kind;
    bool truth;                     /* V_EXPR: only 0 and 1 */
    bool half;                      /* V_RANGE: ..< */
    int n;                          /* V_LIST */
    Span at;                        /* where it came from */
    union {
        struct { double num, over, under; };   /* V_NUM, V_BOOL; a quotient that is not whole keeps its parts */
        struct { double lo, hi; };             /* V_RANGE */
        const char *text;                      /* V_STR, without quotes */
        const struct Value *elem;              /* V_LIST */
        Init dist;
        const Closure *fn;
        Def *def;
        const Expr *expr;
    };
} Value;

/* ---- names */

typedef struct Table {              /* by name; start as { 0 } */
    struct TableSlot { const char *name; void *value; } *slot;
    int n, cap;
} Table;

typedef enum NameKind {
    NAME_LET,
    NAME_CONST,
    NAME_FORMAL,
    NAME_LOOP,
    NAME_TENSOR,                    /* by equations */
    NAME_PARAM,
    NAME_STATE,
} NameKind;

typedef struct Name {
    const char *name;
    NameKind kind;
    Value value;
    Span at;
    Scope *scope;
    const Node *lazy;               /* a LET, CONST or PARAM of the file or the model that nobody has asked for yet */
    bool busy;
} Name;

struct Scope {
    Scope *up;                      /* what is in sight behind it */
    Frame *frame;
    ARRAY(Name *) name;
    Table table;                    /* the newest of each name */
};

/* An index name of a function: bound by the signature, or introduced by `i: n`. */
typedef struct Index {
    const char *name;
    Ext ext;
    Span at;
    const char *why;                /* "axis 2 of `x`" */
    bool bound;
} Index;

/* One call. */
struct Frame {
    const char *name;
    const Closure *fn;
    Frame *up;                      /* the caller's */
    Span call;                      /* zero: called by the compiler itself */
    Scope *scope;
    Module *module;
    ARRAY(Index) index;
    bool has_rest;                  /* the signature has `..` */
    int n_rest;
    Ext rest[MAX_RANK];
    Span rest_at;                   /* the `..` of the signature */
    Scope *back;                    /* the caller's innermost */
    bool pointwise;                 /* its arguments depend on the caller's index names: */
    Eq *shared;                     /* it is evaluated inside the caller's equation */
    bool optimizer;
    bool returned;
    bool lost;                      /* an `if` or `for` of it could not run: what it would have defined is unknown */
    Value result;
    Span return_at;
    const char *tag;
};

/* A node of the state_dict's tree. */
struct Module {
    const char *name, *path;
    Module *up;
    ARRAY(int) own;                 /* positions in Sema.param, in order of definition */
    ARRAY(Module *) sub;
    Table table;                    /* of `sub` */
    int order;                      /* of first use, from 1: when its call begins, after that of its arguments */
};

typedef struct Param {
    Def *def;
    const Node *node;
    const Frame *frame;             /* the call that made it */
    int round;                      /* of model functions, at the time */
} Param;

/* ---- equations */

typedef struct Axis {
    const char *name;               /* ".." for a leading axis */
    Ext ext;
    Span at;                        /* what told the extent */
    const char *why;
    Span first;                     /* where the name stands on the left */
} Axis;

typedef struct Access {             /* to be checked when all extents are known */
    const Affine *map;
    const Def *def;
    const char *name;               /* of the tensor, where it is read */
    int dim;
    Span at;
    Axis *axis[MOST_AXES];
    int n;
} Access;

typedef struct Temp {               /* a reduction: becomes a Comp when all extents are known */
    Def *def;
    Reducer reducer;
    const Expr *body;
    Axis *axis[MOST_AXES];          /* by number at the time */
    int n;
    uint32_t free, red;
    Span at;
    bool merged;                    /* it became the equation itself */
} Temp;

typedef enum EqMode {
    EQ_PLAIN,                       /* let, arguments, entries: no index is free */
    EQ_RESULT,                      /* return: free indices are those of the signature, in its order */
    EQ_EXPLICIT,                    /* y[i, j] = ... */
} EqMode;

/* The equation being read. Axes are numbered as on a stack: the left side's first, then those of reducers. */
struct Eq {
    EqMode mode;
    const char *name;               /* what temporaries are called */
    Axis *axis[MOST_AXES];
    int n;
    int base;                       /* axes below are the caller's: out of sight (pointwise calls) */
    int n_left;
    bool has_rest;
    int rest[MAX_RANK], n_rest;     /* axes that `..` stands for */
    bool first_value;               /* of a parameter or state */
    bool full;                      /* there was no room for an axis, and that was said */
    int guarded;                    /* inside this many conditions that hold only at run time */
    ARRAY(Access) access;
    ARRAY(Temp) temp;
};

/* ---- all of it */

typedef struct Override {           /* one -D */
    const char *name, *value;
    const Node *node;               /* the value */
    Span at;
    bool used;
} Override;

typedef struct Constant { const char *name; double value; } Constant;
typedef struct StateRow { Name *name; Def *def; } StateRow;    /* a state and its value before the step */

struct Sema {
    Arena *arena;
    Diag *diag;
    Program *program;
    Graph *g;
    ModuleFn module;
    void *module_ctx;
    ARRAY(const char *) loaded;     /* names of modules */
    ARRAY(Override) define;
    ARRAY(Closure *) fn;            /* functions and optimizers */
    Table fn_table;                 /* functions */
    ARRAY(const Node *) strategy;
    const Node *block[8];           /* BlockKind: the tree of each block of the file */
    ARRAY(EvalTask) task;
    Frame *top;                     /* of the file */
    Frame *model;
    Frame *frame;                   /* innermost call */
    Scope *scope;                   /* innermost scope */
    Span shards;                    /* the pattern of the data block */
    Span parted;                    /* two calls that made the same parameters: said once */
    Span blamed;                    /* a number that is not whole: said once in a call, */
    const Frame *blamed_in;         /* this one */
    Frame *owed;                    /* the last error wants the calls that led to it as notes */
    int statements, calls, nested;
    bool stopped;                   /* a limit was hit: unwind */
    bool dry;                       /* checking a function that nobody calls: no graph comes out */
    bool alone;                     /* the same, once more, when its signature says every extent: into a graph nobody keeps */
    const Program *student;         /* this is the teacher of that program: the same inputs, frozen parameters */
    bool host;                      /* optimiser: scalars are computed by the host in f64 */
    int round;
    Module *root;
    int modules;                    /* used so far */
    ARRAY(Param) param;
    Table param_table;              /* by name in checkpoints: their positions, counted from 1 */
    ARRAY(Def *) scalar;            /* by Expr id: the rank-0 tensor that holds this value */
    ARRAY(Def *) traced;            /* tensors by equations, newest last: `student.logits` is found here */
    Def *image, *text_tokens;       /* inputs */
    struct { const Closure *fn; Value arg[4], result; } memo[16];
    int n_memo;
    /* the optimiser's constants, for checkpoints */
    const Closure *optimizer;
    ARRAY(Constant) constant;
    double *decay;                  /* by position in `param` */
    struct { const Closure *fn; double y, t; } samples;        /* the strategy's samples(y), and what it may be asked of */
    const char *updating;           /* name of the parameter whose step is being written */
    ARRAY(StateRow) state;          /* of that step */
};

enum BlockKind { B_MODEL, B_DATA, B_TRAIN, B_CONTINUAL, B_EVAL, N_BLOCKS };

/* ---- sema_scope.c */
void sema_error(Sema *s, Span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void sema_note(Sema *s, Span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void sema_help(Sema *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sema_calls(Sema *s);                                      /* the owed notes: before the next error, at a frame's end */
void sema_suggest(Sema *s, const char *word, const char *const *list);   /* help: did you mean */
void suggest_or_list(Sema *s, const char *word, const char *const *list, const char *what);   /* ...; else all of them */
const char *sema_text(Sema *s, const Node *n);                 /* as the user wrote it, cut when long */

typedef struct Words { ARRAY(const char *) list; } Words;
void words_add(Sema *s, Words *w, const char *word);
const char *const *words_list(Sema *s, Words *w);              /* ends with NULL */

void *table_get(const Table *t, const char *name);             /* NULL: not there */
void table_set(Sema *s, Table *t, const char *name, void *value);

/* Counts what is written out: a statement, a round of a loop, a call. False after a message: it is too much. */
bool sema_step(Sema *s, Span at);

Scope *scope_push(Sema *s);                                    /* inside the current one */
void scope_pop(Sema *s);                                       /* closes its tensors */
Name *scope_add(Sema *s, Scope *scope, const char *name, NameKind kind, Value v, Span at);
void scope_drop(Sema *s, Scope *scope, int n);                 /* forgets the newest n names */
Name *scope_local(Sema *s, const char *name);                  /* of this function */
Name *scope_outer(Sema *s, const char *name);                  /* of the model or the file */
Name *scope_declare(Sema *s, Scope *scope, const char *name, NameKind kind, Value v, Span at);   /* NULL: taken */
Index *frame_index(Frame *f, const char *name);
Closure *fn_find(Sema *s, const char *name);
void fn_add(Sema *s, Closure *c);
void scope_words(Sema *s, const Eq *q, Words *w);              /* names in sight */
void fn_words(Sema *s, Words *w);
bool name_is_free(Sema *s, const char *name, Span at);         /* as a local name; else an error */

/* ---- sema_value.c */
Value value_error(void);
Value value_num(double x, Span at);
Value value_bool(bool x, Span at);
Value value_expr(const Expr *e, Span at);
Value value_def(Def *def, Span at);
const char *value_text(Sema *s, const Value *v);               /* "the number 3", "a tensor of 2 axes" */
const char *ext_text(Sema *s, Ext e);
const char *shape_text(Sema *s, int rank, const Ext *shape);
const char *number_text(Sema *s, double x);
bool value_whole(const Value *v, int64_t *n);                  /* a V_NUM without fraction, within 2^53 */
const Expr *value_scalar(Sema *s, const Value *v, Span at);    /* NULL after an error */
bool value_blamed(Sema *s, const Value *v);                       /* a wrong extent or index comes from what was blamed just before */
bool value_extent(Sema *s, const Value *v, const char *what, Span at, Ext *ext);
Init value_init(Sema *s, const Value *v, bool tilde, const Node *n, bool *ok);
Def *def_new(Sema *s, const char *name, Span at, int rank, const Ext *shape);
Def *def_scalar(Sema *s, const Expr *e, const char *name, Span at);
Value value_settle(Sema *s, Value v, const char *name, Span at);   /* a scalar with operations gets a tensor of its own */

/* ---- sema_eval.c */
Value value_of(Sema *s, Eq *q, const Node *n);
Value eval_plain(Sema *s, const Node *n, const char *name);    /* an expression of its own, no free indices; settled */
Value eval_const(Sema *s, const Node *item);                   /* what a CONST says; V_ERROR after a message */
Value eval_number(Sema *s, const Node *n, const char *what);   /* V_NUM, or V_ERROR after a message */
Value name_value(Sema *s, Name *name, Span at);
const Expr *sema_op(Sema *s, Op op, const Expr *a, const Expr *b, const Expr *c);
extern const char *const reducer_words[];
extern const char *const builtin_words[];

/* ---- sema_index.c */
void eq_begin(Sema *s, Eq *q, EqMode mode, const char *name);
int eq_push(Sema *s, Eq *q, const char *name, Ext ext, Span at, const char *why);   /* the number, -1: too many */
bool eq_push_rest(Sema *s, Eq *q, Span at);                    /* the axes that `..` stands for; false after an error */
int eq_find(const Eq *q, const char *name);
const Affine *index_map(Sema *s, Eq *q, const Node *n);        /* NULL after an error */
Value index_load(Sema *s, Eq *q, Def *def, const char *name, const Node *indices, Span at);   /* name: as the text calls it */
bool eq_constrain(Sema *s, Eq *q, Axis *axis, Ext ext, Span at, const char *why);
bool eq_known(Sema *s, Eq *q, Axis *axis, Span at);            /* the extent, if need be from the function's names */
bool def_use(Sema *s, Def *def, Span at);                      /* about to be read: no more pieces */
void note_def(Sema *s, const Def *def, const char *name);        /* note: where the tensor called `name` is defined */
void index_lost(Sema *s, const Eq *q, const Node *n, const char *near);   /* says that nothing runs over index `n` */
Ext index_size(Sema *s, Eq *q, const Node *n);                 /* size(i); EXT_OPEN after an error */

/* ---- sema_reduce.c */
Value eval_reduce(Sema *s, Eq *q, const Node *n);

/* ---- sema_equation.c */
void exec_equation(Sema *s, const Node *set);
void exec_assign(Sema *s, Name *name, const Node *set);        /* the optimiser and `after`: a new value for a tensor */
bool keeps_shape(Sema *s, const Name *name, const Def *def, Span at);   /* has the new value the shape of the old? else an error */
bool expr_is_integer(const Graph *g, const Expr *e);           /* whole numbers made from an integer tensor */
bool too_many_elements(Sema *s, const char *name, int rank, const Ext *shape, int64_t most, Span at);   /* after a message */
bool eq_finish(Sema *s, Eq *q);                                /* extents, ranges, temporaries */
int eq_left(Sema *s, Eq *q, const Node *indices, const Affine **store, Span *at);   /* the rank, -1 after an error */
Value eq_result(Sema *s, Eq *q, Value v, const char *name, Span at);
void def_close(Sema *s, Def *def);
Comp *comp_map(Sema *s, Def *out, const Expr *body, Span at);  /* axes are those of out; plain store */

/* ---- sema_argument.c */
bool check_signature(Sema *s, const Node *formals);
bool names_differ(Sema *s, const Node *names);                 /* a chain of formals, each name once; else an error */
Frame *frame_open(Sema *s, const Closure *fn, Span call, Module *module);   /* becomes the current one */
void frame_close(Sema *s, Frame *f);
bool bind_formal(Sema *s, const Node *formal, Value v, Span at);   /* in the current frame; v is not V_ERROR */
/* Arguments by formal; the first `skip` formals are bound otherwise. False after an error. */
bool match_arguments(Sema *s, const Node *args, const Closure *fn, int skip, const Node **by_formal);
Value argument_value(Sema *s, Eq *q, const Node *formal, const Node *arg);  /* in the caller's frame; settled */
bool bind_default(Sema *s, const Node *formal);                /* in the current frame */

/* ---- sema_call.c */
Value eval_call(Sema *s, Eq *q, const Node *call, Module *module);
Value eval_as(Sema *s, Eq *q, const Node *as);
Value call_values(Sema *s, const Closure *fn, const Value *arg, Span at);    /* one value for each formal */
Value call_within(Sema *s, Eq *q, const Closure *fn, const Value *arg, Span at);   /* values may depend on q's axes */
Closure *closure_new(Sema *s, const char *name, const Node *node, const Node *formals, const Node *value,
                     const Node *body, Scope *home, Span at);
void call_unused(Sema *s, Closure *fn);                        /* checks a function that nobody calls */
void call_dry(Sema *s, const Closure *fn);

/* ---- sema_builtin.c */
Value builtin_call(Sema *s, Eq *q, const Node *call, Module *module);   /* of one of builtin_words */
void unknown_function(Sema *s, const Node *callee);            /* the message about it */
bool foreign_help(Sema *s, const char *name);                  /* how a name from elsewhere is said here, `np.log` too */

/* ---- sema_exec.c */
void exec_items(Sema *s, const Node *items);
void exec_param(Sema *s, const Node *param, Name *known);      /* known: the model's name for it, not filled in yet */
Module *module_enter(Sema *s, Module *up, const char *name);
void module_use(Sema *s, Module *m);                           /* gives it and those around it their place in the order */
bool loop_values(Sema *s, const Node *range, Value **values, int *n);

/* ---- sema_model.c */
bool sema_model(Sema *s, const Node *block);

/* ---- sema.c */
const Node *define_find(Sema *s, const char *block, const char *name);   /* what -D gives `block.name` or `name`, or NULL */
const Node *define_value(Sema *s, const char *block, const Node *let);
void declare_function(Sema *s, const Node *n, bool of_model);             /* a `fn` of a file, or of the model block */
bool sema_analyse(Sema *s, Program *p, int file, const Define *define, int n_define);

/* ---- sema_block.c */
extern const char *const block_words[];
const char *const *block_entries(enum BlockKind kind);         /* the entries a block may have, ends with NULL */
void check_header(Sema *s, const Node *block, bool named);
void check_entries(Sema *s, const Node *block, const char *const *list, const char *inner);
const Node *entry_find(const Node *items, const char *name);
/* Which of the words (NULL-terminated) an entry is; -1 after an error. */
void without_quotes(Sema *s, const Node *n, const char *const *list);
int block_choice(Sema *s, const Node *n, const char *name, const char *const *list);
const Node *block_value(Sema *s, enum BlockKind kind, const char *name);   /* -D first, then the block's; or NULL */
void sema_data(Sema *s, const Node *block);
void sema_train(Sema *s, const Node *block);
void sema_eval(Sema *s, const Node *block);

/* ---- sema_continual.c */
void sema_continual(Sema *s, const Node *block);
bool year_of(Sema *s, double x, Span at, int *year);           /* a whole number from 1 to 9999; else an error */
void sema_strategy(Sema *s, const Node *block);

/* ---- sema_schedule.c */
const Node *strategy_node(Sema *s, const char *name);
Closure *strategy_rule(Sema *s, const Node *strategy, const char *word);   /* a function-valued entry, or NULL */
Frame *strategy_open(Sema *s, const Node *strategy);           /* the strategy's own arguments are bound; frame_close it */

/* ---- sema_update.c */
void sema_unused_optimizer(Sema *s, Closure *fn);
bool sema_optimizer(Sema *s);                                  /* the optimiser entry, tried on a copy of the tensors */
#endif
