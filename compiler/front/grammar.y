/* grammar.y -- tokens to tree, and no other work.
 *
 * One grammar of items serves files, function bodies and blocks: what may stand where is decided by the semantic
 * analysis, whose sentences can be better than a parser's. There is no conflict, and none is settled by precedence:
 * each level of the operators is a rule of its own, loosest first.
 *
 * layout.c makes one END for every item, also before `}` and at the end of the file. After a syntax error it turns
 * what lies deeper than the error into JUNK, so `error END` stops at the end of the statement that was broken. */
%require "3.8"
%define api.pure full
%define api.prefix {grammar_}
%define api.token.prefix {TOK_}
%define api.location.type {Span}
%define api.value.type {GrammarValue}
%define parse.error custom
%define parse.lac full
%expect 0
%param {Parse *p}

%code requires {
    #include "front/syntax.h"
    #include <string.h>
    typedef union GrammarValue {
        Node *node;
        Chain list;
        const char *text;
    } GrammarValue;
}

%code {
    #define YYLLOC_DEFAULT(all, rhs, n) \
        ((all) = (n) ? (Span){ YYRHSLOC(rhs, 1).lo, YYRHSLOC(rhs, n).hi } \
                     : (Span){ YYRHSLOC(rhs, 0).hi, YYRHSLOC(rhs, 0).hi })

    static int grammar_lex(GrammarValue *value, Span *at, Parse *p);
    static void grammar_error(Span *at, Parse *p, const char *message);

    /* A node whose text stands at `word`. In the macros yyloc is Bison's name for @$. */
    static Node *make(Parse *p, Kind kind, Span span, Span word, const char *text, Node *a, Node *b, Node *c)
    {
        Node *n = tree_node(p->arena, kind, span, text, a, b, c);
        n->word = word;
        if (n->height <= TREE_HEIGHT)
            return n;
        if (!syntax_repaired(p))
            parse_repair(p, span, "this nests more than %d levels deep", TREE_HEIGHT);
        return tree_node(p->arena, AST_BAD, span, NULL, NULL, NULL, NULL);
    }
    #define NODE(kind, a, b, c) make(p, AST_##kind, yyloc, yyloc, NULL, (a), (b), (c))
    #define NODE_AT(kind, word, text, a, b, c) make(p, AST_##kind, yyloc, (word), (text), (a), (b), (c))

    static Chain append(Chain list, Node *n)
    {
        if (!list.first)
            return (Chain){ n, n };
        list.last->next = n;
        list.last = n;
        return list;
    }
    #define ONE(n) append((Chain){ 0 }, (n))

    static Node *dotted(Parse *p, Span span, Node *path, const char *name)
    {
        if (strlen(path->text) > 500) {                    /* each step makes a copy */
            if (!syntax_repaired(p))
                parse_repair(p, span, "this name is too long");
            return path;
        }
        return make(p, AST_NAME, span, span, arena_printf(p->arena, "%s.%s", path->text, name), NULL, NULL, NULL);
    }

    /* sum[i](...) is a call of an indexed name: a node of its own. */
    static Node *call(Parse *p, Span span, Node *callee, Node *args)
    {
        if (callee->kind == AST_INDEX && callee->a->kind == AST_NAME)
            return make(p, AST_REDUCE, span, callee->a->span, callee->a->text, callee->b, args, NULL);
        return make(p, AST_CALL, span, span, NULL, callee, args, NULL);
    }
}

%token FILE_END 0 "the end of the file"
%token END "the end of the line"
%token DEFINE "a definition"
%token <text> NAME "a name" NUM "a number" STR "a string"
%token USE "`use`" FN "`fn`" PARAM "`param`" STATE "`state`" LET "`let`" CONST "`const`" RETURN "`return`" FOR "`for`" IN "`in`"
%token IF "`if`" THEN "`then`" ELSE "`else`" AND "`and`" OR "`or`" NOT "`not`" AS "`as`"
%token DOTS "`..`" HALF_OPEN "`..<`" EQ "`==`" NE "`!=`" LE "`<=`" GE "`>=`"
%token JUNK "skipped text"

%type <node> item head init target path formal index arg
%type <node> value disj conj neg cmp pair chain sum term unary power scoped postfix primary
%type <list> items body else formals formal_list names index_list indices args arg_list values scope
%type <text> relop
%start input

%%

input:
    items                             { p->root = NODE(FILE, $1.first, NULL, NULL); }
  | DEFINE path '=' value END
    {
        Span set = { @2.lo, @4.hi };
        p->root = make(p, AST_SET, set, set, NULL, $2, $4, NULL);
    }
  ;

items:
    %empty                            { $$ = (Chain){ 0 }; }
  | items item END                    { $$ = append($1, $2); }
  | items error END
    {
        $$ = append($1, make(p, AST_BAD, @2, @2, NULL, NULL, NULL, NULL));
        layout_resume(p);
        p->quiet = false;
        yyerrok;
    }
  ;

body:
    '{' items '}'                     { $$ = $2; }
  ;

item:
    USE path                          { $$ = NODE_AT(USE, @2, $2->text, NULL, NULL, NULL); }
  | FN NAME formals '=' value         { $$ = NODE_AT(FN, @2, $2, $3.first, $5, NULL); }
  | FN NAME formals body              { $$ = NODE_AT(FN, @2, $2, $3.first, NULL, $4.first); }
  | PARAM target init                 { $$ = NODE_AT(PARAM, @3, $3->text, $2, $3->a, NULL); }
  | STATE target init                 { $$ = NODE_AT(STATE, @3, $3->text, $2, $3->a, NULL); }
  | LET NAME '=' value                { $$ = NODE_AT(LET, @2, $2, $4, NULL, NULL); }
  | CONST NAME '=' value              { $$ = NODE_AT(CONST, @2, $2, $4, NULL, NULL); }
  | RETURN value                      { $$ = NODE(RETURN, $2, NULL, NULL); }
  | FOR NAME IN value body            { $$ = NODE_AT(FOR, @2, $2, $4, $5.first, NULL); }
  | IF value body else                { $$ = NODE(WHEN, $2, $3.first, $4.first); }
  | target '=' value                  { $$ = NODE(SET, $1, $3, NULL); }
  | path '(' args ')' '=' value
    {
        Node *target = call(p, (Span){ @1.lo, @4.hi }, $1, $3.first);
        $$ = NODE(SET, target, $6, NULL);
    }
  | head
  ;

else:
    %empty                            { $$ = (Chain){ 0 }; }
  | ELSE body                         { $$ = $2; }
  | ELSE IF value body else
    {
        Span when = { @2.lo, @$.hi };
        $$ = ONE(make(p, AST_WHEN, when, when, NULL, $3, $4.first, $5.first));
    }
  ;

head:
    NAME body                         { $$ = NODE_AT(BLOCK, @1, $1, NULL, NULL, $2.first); }
  | NAME NAME body
    {
        Node *title = make(p, AST_NAME, @2, @2, $2, NULL, NULL, NULL);
        $$ = NODE_AT(BLOCK, @1, $1, title, NULL, $3.first);
    }
  | NAME NAME formals body
    {
        Node *title = make(p, AST_NAME, @2, @2, $2, NULL, NULL, NULL);
        $$ = NODE_AT(BLOCK, @1, $1, title, $3.first, $4.first);
    }
  | NAME STR
    {
        Node *title = make(p, AST_STR, @2, @2, $2, NULL, NULL, NULL);
        $$ = NODE_AT(BLOCK, @1, $1, title, NULL, NULL);
    }
  | NAME STR body
    {
        Node *title = make(p, AST_STR, @2, @2, $2, NULL, NULL, NULL);
        $$ = NODE_AT(BLOCK, @1, $1, title, NULL, $3.first);
    }
  ;

init:
    '=' value                         { $$ = NODE_AT(NAMED, @1, "=", $2, NULL, NULL); }
  | '~' value                         { $$ = NODE_AT(NAMED, @1, "~", $2, NULL, NULL); }
  ;

target:
    path
  | path '[' index_list ']'           { $$ = NODE(INDEX, $1, $3.first, NULL); }
  ;

path:
    NAME                              { $$ = NODE_AT(NAME, @1, $1, NULL, NULL, NULL); }
  | path '.' NAME                     { $$ = dotted(p, @$, $1, $3); }
  ;

/* ---- signatures */

formals:
    '(' ')'                           { $$ = (Chain){ 0 }; }
  | '(' formal_list ')'               { $$ = $2; }
  | '(' formal_list ',' ')'           { $$ = $2; }
  | '(' error ')'                     { $$ = (Chain){ 0 }; layout_resume(p); yyerrok; }
  ;

formal_list:
    formal                            { $$ = ONE($1); }
  | formal_list ',' formal            { $$ = append($1, $3); }
  ;

formal:
    NAME                              { $$ = NODE_AT(FORMAL, @1, $1, NULL, NULL, NULL); }
  | NAME '=' value                    { $$ = NODE_AT(FORMAL, @1, $1, NULL, NULL, $3); }
  | NAME '[' index_list ']'           { $$ = NODE_AT(FORMAL, @1, $1, $3.first, NULL, NULL); }
  | NAME '(' names ')'                { $$ = NODE_AT(FORMAL, @1, $1, NULL, $3.first, NULL); }
  | NAME '(' names ')' '=' value      { $$ = NODE_AT(FORMAL, @1, $1, NULL, $3.first, $6); }
  ;

names:
    NAME                              { $$ = ONE(make(p, AST_NAME, @1, @1, $1, NULL, NULL, NULL)); }
  | names ',' NAME                    { $$ = append($1, make(p, AST_NAME, @3, @3, $3, NULL, NULL, NULL)); }
  ;

index_list:
    indices
  | indices ','                       { $$ = $1; }
  ;

indices:
    index                             { $$ = ONE($1); }
  | indices ',' index                 { $$ = append($1, $3); }
  ;

index:
    DOTS                              { $$ = NODE(REST, NULL, NULL, NULL); }
  | NAME ':' value                    { $$ = NODE_AT(AXIS, @1, $1, $3, NULL, NULL); }
  | value
  ;

/* The semantic analysis asks that what stands before `=` is a name or name(names). */
args:
    %empty                            { $$ = (Chain){ 0 }; }
  | arg_list
  | arg_list ','                      { $$ = $1; }
  ;

arg_list:
    arg                               { $$ = ONE($1); }
  | arg_list ',' arg                  { $$ = append($1, $3); }
  ;

arg:
    value
  | value '=' value                   { $$ = NODE(NAMED, $1, $3, NULL); }
  ;

/* ---- values */

value:
    disj
  | disj DOTS disj                    { $$ = NODE_AT(RANGE, @2, "..", $1, $3, NULL); }
  | disj HALF_OPEN disj               { $$ = NODE_AT(RANGE, @2, "..<", $1, $3, NULL); }
  | IF value THEN value ELSE value    { $$ = NODE(IF, $2, $4, $6); }
  ;

disj:
    conj
  | disj OR conj                      { $$ = NODE_AT(BINARY, @2, "or", $1, $3, NULL); }
  ;

conj:
    neg
  | conj AND neg                      { $$ = NODE_AT(BINARY, @2, "and", $1, $3, NULL); }
  ;

neg:
    cmp
  | NOT neg                           { $$ = NODE_AT(UNARY, @1, "not", $2, NULL, NULL); }
  ;

/* A comparison does not chain; the chain is parsed all the same, for a message in the user's words. */
cmp:
    sum
  | pair
  | chain
  ;

pair:
    sum relop sum                     { $$ = NODE_AT(BINARY, @2, $2, $1, $3, NULL); }
  ;

chain:
    pair relop sum                    { syntax_chain(p, $1, $2, $3); $$ = NODE_AT(BINARY, @2, $2, $1, $3, NULL); }
  | chain relop sum                   { $$ = NODE_AT(BINARY, @2, $2, $1, $3, NULL); }
  ;

relop:
    EQ                                { $$ = "=="; }
  | NE                                { $$ = "!="; }
  | '<'                               { $$ = "<"; }
  | LE                                { $$ = "<="; }
  | '>'                               { $$ = ">"; }
  | GE                                { $$ = ">="; }
  ;

sum:
    term
  | sum '+' term                      { $$ = NODE_AT(BINARY, @2, "+", $1, $3, NULL); }
  | sum '-' term                      { $$ = NODE_AT(BINARY, @2, "-", $1, $3, NULL); }
  ;

term:
    unary
  | term '*' unary                    { $$ = NODE_AT(BINARY, @2, "*", $1, $3, NULL); }
  | term '/' unary                    { $$ = NODE_AT(BINARY, @2, "/", $1, $3, NULL); }
  ;

/* -x^2 is -(x^2), x^-1 is allowed, 2^3^2 is 2^9. */
unary:
    power
  | '-' unary                         { $$ = NODE_AT(UNARY, @1, "-", $2, NULL, NULL); }
  ;

power:
    scoped
  | scoped '^' unary                  { $$ = NODE_AT(BINARY, @2, "^", $1, $3, NULL); }
  ;

/* What stands in brackets behind `as` belongs to the scope: the result has to be named before it is indexed. */
scoped:
    postfix
  | postfix AS scope                  { $$ = NODE(AS, $1, $3.first, NULL); }
  ;

scope:
    NAME                              { $$ = ONE(make(p, AST_NAME, @1, @1, $1, NULL, NULL, NULL)); }
  | scope '.' NAME                    { $$ = append($1, make(p, AST_NAME, @3, @3, $3, NULL, NULL, NULL)); }
  | scope '[' index_list ']'
    {
        Span brackets = { @2.lo, @4.hi };
        if ($3.first != $3.last || $3.first->kind == AST_REST || $3.first->kind == AST_AXIS)
            syntax_scope(p, brackets, $1.first);
        $$ = append($1, make(p, AST_INDEX, brackets, brackets, NULL, NULL, $3.first, NULL));
    }
  ;

postfix:
    primary
  | postfix '[' index_list ']'        { $$ = NODE(INDEX, $1, $3.first, NULL); }
  | postfix '(' args ')'              { $$ = call(p, @$, $1, $3.first); }
  ;

primary:
    path
  | NUM                               { $$ = NODE_AT(NUM, @1, $1, NULL, NULL, NULL); }
  | STR                               { $$ = NODE_AT(STR, @1, $1, NULL, NULL, NULL); }
  | '(' value ')'                     { $$ = $2; $$->span = @$; }
  | '[' values ']'                    { $$ = NODE(LIST, $2.first, NULL, NULL); }
  | '[' values ',' ']'                { $$ = NODE(LIST, $2.first, NULL, NULL); }
  ;

values:
    value                             { $$ = ONE($1); }
  | values ',' value                  { $$ = append($1, $3); }
  ;

%%

static int grammar_lex(GrammarValue *value, Span *at, Parse *p)
{
    Token t;
    layout_next(p, &t);
    value->text = t.text;
    *at = t.span;
    return t.kind;
}

/* Bison calls it for one reason only, its stack; syntax errors go to the function below. */
static void grammar_error(Span *at, Parse *p, const char *message)
{
    (void)message;
    syntax_exhausted(p, *at);
}

/* What could stand here, exactly (that is what LAC is for), in a form that does not need this file's tables. */
static int yyreport_syntax_error(const yypcontext_t *context, Parse *p)
{
    yysymbol_kind_t kind[YYNTOKENS];
    const char *name[YYNTOKENS];
    int n = yypcontext_expected_tokens(context, kind, YYNTOKENS);
    yysymbol_kind_t got = yypcontext_token(context);
    Expected want = { .name = name, .n = n, .got = got == YYSYMBOL_YYEMPTY ? "nothing" : yysymbol_name(got) };
    for (int i = 0; i < n; i++) {
        name[i] = yysymbol_name(kind[i]);
        want.value |= kind[i] == YYSYMBOL_NUM;
        want.infix |= kind[i] == YYTRANSLATE('*');
        want.open |= kind[i] == YYTRANSLATE('{');
        want.assign |= kind[i] == YYTRANSLATE('=');
        want.then |= kind[i] == YYSYMBOL_THEN;
        want.otherwise |= kind[i] == YYSYMBOL_ELSE;
    }
    syntax_error(p, &want);
    return 0;
}
