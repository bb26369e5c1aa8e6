/* syntax.c -- what a syntax error says.
 *
 * Bison knows where the error is and what could have stood there. From that, and from the tokens around it, the
 * functions below recognise the slips people make, the most telling first; each says what was found and what is
 * wanted, with the user's own text where it is short. Only if none applies, the list of expected tokens is printed.
 *
 * One mistake is one message: `quiet` keeps back what follows in the same statement, and a statement in which the
 * scanner has already repaired something gets no second message. */
#include "front/syntax.h"
#include "front/grammar.h"
#include <string.h>

enum { SHORT = 60 };                /* the user's text is quoted up to this length */

/* The situation of one error: Bison's part, the tokens around it, the innermost open bracket. */
typedef struct Slip {
    Parse *p;
    const Expected *want;
    Token got, last;                /* the unexpected token and the one before it */
    const Token *item;              /* the first tokens of the statement */
    Bracket in;                     /* the bracket around `got`; { at 0 outside of all */
    Span gap;                       /* right behind `last` */
    int next;                       /* kind of the token after `got` */
    bool ends;                      /* `got` is the last token of its line */
    bool word;                      /* the statement starts with a name and has more than that */
} Slip;

static bool is_operand(int kind)
{
    return kind == TOK_NAME || kind == TOK_NUM || kind == TOK_STR;
}

static bool is_relop(int kind)
{
    return kind == TOK_EQ || kind == TOK_NE || kind == '<' || kind == TOK_LE || kind == '>' || kind == TOK_GE;
}

static bool is_infix(int kind)
{
    return is_relop(kind) || kind == TOK_AND || kind == TOK_OR || (kind > 0 && kind < 128 && strchr("+-*/^", kind));
}

/* ---- the user's own text */

/* The text of a span on one line when it may be quoted: short, and every bracket in it has its partner. Else NULL. */
const char *syntax_quote(const Parse *p, int lo, int hi)
{
    int depth = 0;
    bool string = false;
    if (hi <= lo || hi - lo > 4 * SHORT)
        return NULL;
    const char *text = source_text(p->diag->sources, (Span){ lo, hi });
    if (!*text || strlen(text) > SHORT)
        return NULL;
    for (const char *c = text; *c; c++) {
        if (*c == '"')
            string = !string;
        else if (!string && strchr("([{", *c))
            depth++;
        else if (!string && strchr(")]}", *c) && --depth < 0)
            return NULL;
    }
    return depth || string ? NULL : text;
}

/* What follows on the line of a place, up to a comment. */
static const char *rest_of_line(const Parse *p, int from)
{
    return syntax_quote(p, from, layout_line_end(p, from));
}

/* The name in front of a bracket, or NULL. */
static const char *name_before(const Parse *p, int bracket)
{
    int lo = bracket;
    while (lo > p->source.start) {
        char c = layout_at(p, lo - 1);
        if (!(c == '_' || c == '.' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')))
            break;
        lo--;
    }
    return syntax_quote(p, lo, bracket);
}

/* ---- groups of slips; true when the function has said it */

static bool wrong_word(Slip *s)
{
    static const char *const words[] = { "use", "fn", "param", "state", "let", "const", "return", "for", "if", NULL };
    static const struct {
        const char *word, *ours;
    } foreign[] = {
        { "def", "fn" }, { "func", "fn" }, { "function", "fn" }, { "fun", "fn" },
        { "import", "use" }, { "from", "use" }, { "include", "use" },
        { "var", "let" }, { "class", "model" },
    };
    const Token *item = s->item;
    if (!s->word)
        return false;
    for (size_t i = 0; i < LEN(foreign) && is_operand(item[1].kind); i++) {
        if (!strcmp(foreign[i].word, item[0].text)) {
            parse_error(s->p, item[0].span, "`%s` is written `%s`", item[0].text, foreign[i].ours);
            return true;
        }
    }
    if (!strcmp(item[0].text, "while") && item[1].kind != '=' && item[1].kind != '{') {
        parse_error(s->p, item[0].span, "there is no `while`: how often a loop runs is known when it is compiled");
        parse_help(s->p, "write `for i in 0..<n { ... }`");
        return true;
    }
    bool set = !strcmp(item[0].text, "retrieval") || !strcmp(item[0].text, "zeroshot");
    if (set && item[1].kind == TOK_NAME) {
        const char *name = rest_of_line(s->p, item[1].span.lo);
        parse_error(s->p, item[1].span, "the name of a set stands in quotes");
        parse_help(s->p, "write `%s \"%s\"`", item[0].text, name ? name : "...");
        return true;
    }
    const char *near = diag_closest(item[0].text, words);
    bool returns = near && !strcmp(near, "return");
    if (near && (is_operand(item[1].kind) || (returns && item[1].kind != '=' && item[1].kind != '['))) {
        parse_error(s->p, item[0].span, "no statement starts with `%s`", item[0].text);
        parse_help(s->p, "did you mean `%s`?", near);
        return true;
    }
    return false;
}

static bool wrong_bracket(Slip *s)
{
    Parse *p = s->p;
    int got = s->got.kind;
    Span opener = { s->in.at, s->in.at + 1 };
    if (got == '}' && !p->depth) {
        parse_error(p, s->got.span, "this `}` closes nothing");
    } else if ((got == ')' && s->in.open == '[') || (got == ']' && s->in.open == '(')) {
        parse_error(p, s->got.span, "`%c` cannot close `%c`", got, s->in.open);
        parse_note(p, opener, "opened here");
    } else if ((got == ')' || got == ']') && s->in.open == '{') {
        parse_error(p, s->got.span, "this `%c` closes nothing", got);
    } else if (got == '=' && s->in.open == '[') {
        parse_error(p, opener, "this `[` is not closed before `=`");
    } else if (s->want->value && got == ')' && s->last.kind == '(' && s->in.open == '(') {
        parse_error(p, s->got.span, "a value is missing between these parentheses");
    } else if (s->want->value && got == ']' && s->last.kind == '[' && s->in.open == '[') {
        const char *name = name_before(p, s->in.at);
        parse_error(p, s->got.span, "nothing stands between these brackets");
        if (name)
            parse_help(p, "a tensor without axes is written without brackets: `%s`", name);
    } else {
        return false;
    }
    return true;
}

/* `x[1:, d]` and the like. */
static void slice(Slip *s)
{
    const char *name = name_before(s->p, s->in.at);
    parse_error(s->p, s->got.span, "an axis cannot be sliced");
    parse_help(s->p, "say which part: `y[i: 5, d] = %s[2 + i, d]` takes rows 2 to 6 of %s", name ? name : "x",
               name ? name : "x");
}

/* A header without `{` and `=` at the end of its line; the next line is indented. Is that line a statement, so that
 * the brace was forgotten, or a value, so that it was the `=`? */
static void missing_body(Slip *s)
{
    Parse *p = s->p;
    int depth = 0;
    bool statement = p->look.kind != TOK_NAME || !s->want->assign;
    for (int i = p->look.span.lo, end = layout_line_end(p, i); i < end && layout_at(p, i) != '#'; i++) {
        char c = layout_at(p, i), before = layout_at(p, i - 1);
        depth += c == '(' || c == '[';
        depth -= c == ')' || c == ']';
        if (!depth && (c == '~' || c == '{' || (c == '=' && !strchr("=<>!", before) && layout_at(p, i + 1) != '=')))
            statement = true;
    }
    if (statement) {
        parse_error(p, s->gap, "`{` is missing at the end of this line");
        p->owed++;
    } else {
        parse_error(p, s->gap, "`=` or `{` is missing at the end of this line");
        p->taint = p->look.span.lo;                        /* the value below has had its message */
    }
}

/* `=`, `==`, `:` in each other's place, and a block without its brace. */
static bool wrong_equals(Slip *s)
{
    Parse *p = s->p;
    int got = s->got.kind;
    if (got == '=' && s->want->infix) {
        parse_error(p, s->got.span, "`=` defines a name; it does not compare");
        parse_help(p, "to compare, write `==`");
    } else if (got == TOK_EQ && s->want->assign) {
        parse_error(p, s->got.span, "`==` compares; it does not define");
        parse_help(p, "to give `%s` a value, write `=`", s->last.text ? s->last.text : "a name");
    } else if (got == ':' && s->in.open == '[') {
        slice(s);
    } else if (got == ':' && s->ends) {
        parse_error(p, s->got.span, "a block stands in braces");
        parse_help(p, "write `{` here, and `}` on a line of its own after the block");
    } else if (got == TOK_END && s->want->open && s->item[0].kind != TOK_IF && layout_deeper(p)) {
        missing_body(s);
    } else if (got == ':' && s->last.kind == TOK_NAME && s->item[0].kind == TOK_FN && s->in.open == '(') {
        parse_error(p, s->got.span, "an argument has no type");
        parse_help(p, "a tensor has its axes, `%s[b, d]`; all else is only named, `%s`", s->last.text, s->last.text);
    } else if (got == ':' && s->last.kind == TOK_NAME) {
        parse_error(p, s->got.span, "a name gets its value by `=`");
        parse_help(p, "write `%s = %s`", s->last.text, is_operand(s->next) && p->look.text ? p->look.text : "...");
    } else {
        return false;
    }
    return true;
}

/* The last `if` of the statement up to a place; NULL when the statement has several and it is not clear which. */
static const char *last_if(Slip *s, int to)
{
    return s->p->ifs == 1 ? syntax_quote(s->p, s->p->if_at, to) : NULL;
}

static bool wrong_if(Slip *s)
{
    Parse *p = s->p;
    int got = s->got.kind;
    const char *text;
    if (got == TOK_IF && s->want->value) {
        parse_error(p, s->got.span, "an `if` inside an expression needs parentheses");
        text = rest_of_line(p, s->got.span.lo);
        if (text && strstr(text, " else "))
            parse_help(p, "write `(%s)`", text);
        else
            parse_help(p, "write `(if a then b else c)`");
    } else if (got == TOK_IF && s->want->infix && layout_same_line(p, s->last.span.hi, s->got.span.lo)) {
        parse_error(p, s->got.span, "a choice is written `if a then b else c`, with the condition first");
    } else if (got == TOK_THEN && s->want->open) {
        parse_error(p, s->got.span, "an `if` statement takes a block: `if c { ... }`");
        text = last_if(s, s->got.span.lo);
        const char *rest = text ? rest_of_line(p, s->got.span.hi) : NULL;
        if (rest && !strstr(rest, "else"))
            parse_help(p, "write `%s { %s }`; a value is written `x = %s then ... else ...`", text, rest, text);
        else
            parse_help(p, "for a value, write `x = if a then b else c`");
    } else if (s->want->then && s->want->infix && !is_infix(got)) {
        parse_error(p, s->got.span, "`then` is missing in this `if`");
        text = last_if(s, s->got.span.lo);
        parse_help(p, "write `%s then ... else ...`", text ? text : "if a");
    } else if (s->want->otherwise && s->want->infix && !is_infix(got)) {
        parse_error(p, got == TOK_END ? s->gap : s->got.span, "`else` is missing in this `if`");
        text = last_if(s, s->last.span.hi);
        parse_help(p, "an `if` is a value, so both cases are needed: `%s else ...`", text ? text : "if a then b");
    } else {
        return false;
    }
    return true;
}

/* Two operands side by side. */
static void operands(Slip *s)
{
    Parse *p = s->p;
    bool far = !layout_same_line(p, s->last.span.hi, s->got.span.lo);
    if (s->last.kind == TOK_NAME && !strcmp(s->last.text, "lambda")) {
        parse_error(p, s->last.span, "`lambda` is not part of the language");
        parse_help(p, "an argument that is a function has its own argument at its name: `activation(x) = max(x, 0)`");
    } else if (s->in.open != '{' && (s->next == '=' || far || s->in.open == '[')) {
        parse_error(p, far ? s->gap : s->got.span, "a comma is missing %s", far ? "here" : "before this");
    } else if (s->in.open == '{' && (s->next == '=' || s->next == '(') && s->got.kind == TOK_NAME) {
        parse_error(p, s->got.span, "two statements on one line need `;` between them");
    } else {
        parse_error(p, s->got.span, "an operator is missing before this");
        if (s->last.kind == TOK_NUM && s->got.kind != TOK_STR)
            parse_help(p, "a product is written `%s * %s`", s->last.text, s->got.text);
    }
}

/* `f(x).view(...)` */
static void method(Slip *s)
{
    parse_error(s->p, s->got.span, "only a name has parts behind `.`; this is a value");
    if (s->next == TOK_NAME)
        parse_help(s->p, "a function takes what it works on as an argument: `%s(...)`", s->p->look.text);
}

/* A comma outside of ( ) and [ ]. */
static void comma(Slip *s)
{
    Parse *p = s->p;
    if (s->word && s->item[1].kind == ',' && !s->ends) {
        parse_error(p, s->got.span, "a statement defines one name, not several");
    } else if (s->ends && !(s->last.kind == ')' && layout_deeper(p))) {
        parse_error(p, s->got.span, "a statement ends with its line, not with a comma");
    } else {
        parse_error(p, s->got.span, "this `,` stands outside of all brackets");
        if (s->last.kind == ')')
            parse_help(p, "is there one `)` too many before it?");
    }
}

/* `(0.9, 0.98)` */
static void tuple(Slip *s)
{
    parse_error(s->p, s->got.span, "these parentheses hold one value: there are no tuples");
    parse_help(s->p, "a list is written `[a, b]`, a range `a..b`");
}

/* `use "nn"` */
static void quoted_module(Slip *s)
{
    parse_error(s->p, s->got.span, "the name of a module stands without quotes");
    parse_help(s->p, "write `use %.*s`", (int)strlen(s->got.text) - 2, s->got.text + 1);
}

static bool wrong_operator(Slip *s)
{
    Parse *p = s->p;
    int got = s->got.kind;
    if (got == ',' && s->want->value)
        parse_error(p, s->got.span, s->last.kind == ',' ? "nothing stands between these commas"
                                                         : "a value is missing before this comma");
    else if (got == ',' && s->in.open == '{')
        comma(s);
    else if (got == ',' && s->in.open == '(' && s->want->infix)
        tuple(s);
    else if (got == TOK_STR && s->last.kind == TOK_USE)
        quoted_module(s);
    else if (s->want->value && is_infix(got))
        parse_error(p, s->got.span, "a value is missing before this operator");
    else if (s->want->value && (got == TOK_END || got == ')' || got == ']'))
        parse_error(p, s->gap, "a value is missing here");
    else if (got == '.' && (s->last.kind == ')' || s->last.kind == ']'))
        method(s);
    else if (is_operand(got) && s->want->infix)
        operands(s);
    else
        return false;
    return true;
}

/* A line that is only a value. */
static bool lost_value(Slip *s)
{
    if (s->got.kind != TOK_END || !s->word || !(s->want->assign || s->want->infix) || s->p->define)
        return false;
    Span all = { s->item[0].span.lo, s->last.span.hi };
    const char *text = syntax_quote(s->p, all.lo, all.hi);
    parse_error(s->p, all, "nothing happens with this value");
    if (text)
        parse_help(s->p, "name it, `let y = %s`, or return it, `return %s`", text, text);
    else
        parse_help(s->p, "name it, `let y = ...`, or return it, `return ...`");
    return true;
}

/* What could stand here, as words: the tokens that start a value and the operators are one word each. */
static const char *expected(const Slip *s, Text *out)
{
    static const char statements[] = " a name, `use`, `fn`, `param`, `state`, `let`, `const`, `return`, `for`, `if`, "
                                     "a definition, the end of the file,";
    static const char values[] = " a name, a number, a string, '(', '[', '-', `not`, `if`,";
    static const char infixes[] = " '+', '-', '*', '/', '^', '<', '>', `==`, `!=`, `<=`, `>=`, `and`, `or`, `as`, '[', "
                                  "'(', '.', `..`, `..<`,";
    Arena *arena = s->p->arena;
    const char **word = NEWN(arena, const char *, s->want->n + 3);
    int n = 0;
    bool statement = false;
    for (int i = 0; i < s->want->n; i++)
        statement |= !strcmp(s->want->name[i], "`use`");
    if (statement)
        word[n++] = "a statement";
    for (int i = 0; i < s->want->n; i++) {
        const char *name = s->want->name[i];
        const char *key = arena_printf(arena, " %s,", name);
        if ((statement && strstr(statements, key)) || (s->want->value && strstr(values, key))
            || (s->want->infix && strstr(infixes, key)))
            continue;
        word[n++] = name[0] == '\'' ? arena_printf(arena, "`%c`", name[1]) : name;
    }
    if (s->want->value)
        word[n++] = "a value";
    if (s->want->infix)
        word[n++] = "an operator";
    for (int i = 0; i < n; i++)
        text_printf(out, "%s%s", !i ? "" : i == n - 1 ? " or " : ", ", word[i]);
    return text_data(out);
}

static void general(Slip *s)
{
    Parse *p = s->p;
    Text list = { .arena = p->arena };
    const char *want = expected(s, &list), *got = s->want->got;
    if (s->got.kind == TOK_END || !s->got.kind)
        parse_error(p, s->gap, "%s is missing here", want);
    else if (s->got.text)
        parse_error(p, s->got.span, "`%s` cannot stand here; expected %s", s->got.text, want);
    else if (got[0] == '\'')
        parse_error(p, s->got.span, "`%c` cannot stand here; expected %s", got[1], want);
    else
        parse_error(p, s->got.span, "%s cannot stand here; expected %s", got, want);

    /* A header without its `{`: the `}` will come all the same. */
    if (s->want->open && s->got.kind != '{' && !memchr(p->source.text + (s->got.span.lo - p->source.start), '{',
                                                        (size_t)(layout_line_end(p, s->got.span.lo) - s->got.span.lo)))
        p->owed++;
}

/* ---- entry points */

static void broken(Parse *p, int got)                      /* tell layout.c where the error is */
{
    bool opener = got == '(' || got == '[' || got == '{';
    if (opener && p->depth)
        p->bracket[p->depth - 1].doubtful = true;
    p->quiet = true;
    if (p->skip < 0)
        p->skip = p->depth - opener;
}

bool syntax_repaired(const Parse *p)
{
    return p->taint && p->item_tokens && p->taint >= p->item[0].span.lo;
}

void syntax_error(Parse *p, const Expected *want)
{
    Token got = p->prev;
    if (got.kind == '}' && !p->depth && p->owed) {
        p->owed--;
        p->quiet = true;
    }
    if (p->quiet || got.kind == TOK_JUNK || syntax_repaired(p)) {
        broken(p, got.kind);
        return;
    }
    Slip s = {
        .p = p,
        .want = want,
        .got = got,
        .last = p->before,
        .item = p->item,
        .in = { .open = '{' },
        .gap = { p->before.span.hi, p->before.span.hi + 1 },
        .next = got.kind,
        .word = p->item_tokens > 1 && p->item[0].kind == TOK_NAME,
    };
    bool pushed = got.kind == '(' || got.kind == '[' || got.kind == '{';     /* layout has it on its stack already */
    if (p->depth > pushed)
        s.in = p->bracket[p->depth - 1 - pushed];
    if (p->popped_by == got.span.lo && got.span.hi > got.span.lo)            /* and this one off it already */
        s.in = p->popped;
    if (got.kind && got.kind != TOK_END) {
        s.next = layout_peek(p);
        s.ends = p->newline;
    }
    if (!wrong_word(&s) && !wrong_bracket(&s) && !wrong_equals(&s) && !wrong_if(&s) && !wrong_operator(&s)
        && !lost_value(&s))
        general(&s);
    broken(p, got.kind);
}

void syntax_chain(Parse *p, const Node *left, const char *op, const Node *right)
{
    if (syntax_repaired(p))
        return;
    Span all = { left->span.lo, right->span.hi };
    const char *first = syntax_quote(p, left->span.lo, left->span.hi);
    const char *middle = syntax_quote(p, left->b->span.lo, left->b->span.hi);
    const char *last = syntax_quote(p, right->span.lo, right->span.hi);
    parse_repair(p, all, "comparisons do not chain");
    if (first && middle && last)
        parse_help(p, "write `%s and %s %s %s`", first, middle, op, last);
    else
        parse_help(p, "write `a < b and b < c`");
}

void syntax_scope(Parse *p, Span brackets, const Node *scope)
{
    if (syntax_repaired(p))
        return;
    const char *text = syntax_quote(p, scope->span.lo, brackets.lo);
    const char *axes = syntax_quote(p, brackets.lo, brackets.hi);
    parse_repair(p, brackets, "brackets behind `as` hold the number of a parameter scope, not indices");
    if (text && axes)
        parse_help(p, "name the result, `let y = ... as %s`, then index it, `y%s`", text, axes);
    else
        parse_help(p, "name the result, then index it");
}

void syntax_exhausted(Parse *p, Span at)
{
    p->quiet = false;
    parse_error(p, at, "this nests too deep to be read");
    p->quiet = p->dead = true;
}
