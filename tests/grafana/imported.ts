// What Grafana imports, from the types of its schema package, as JSON has it: names of enum members
// are their values there. Of what the package leaves open, the panels' options come from the panels
// themselves, and queries, annotations and links are those of the Prometheus data source.

import type * as schema from "@grafana/schema";
import type * as stat from "grafana/raw/composable/stat/panelcfg/x/types.gen";
import type * as timeline from "grafana/raw/composable/statetimeline/panelcfg/x/types.gen";
import type * as timeseries from "grafana/raw/composable/timeseries/panelcfg/x/types.gen";
import type * as model from "grafana/raw/dashboard/x/types.gen";

type Values<T extends string | number> = `${T}` extends `${infer N extends number}` ? N : `${T}`;

// Booleans and what is known to be any string stay as they are; enums become their values.
type Plain<T> = T extends boolean | null | undefined
  ? T
  : T extends string
    ? string extends T ? T : `${T}`
    : T extends number
      ? number extends T ? T : Values<T>
      : T extends object
        ? { [K in keyof T]: Plain<T[K]> }
        : T;

interface PrometheusQuery extends schema.DataQuery {
  datasource: schema.DataSourceRef;
  expr: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
}

interface PrometheusAnnotation extends schema.AnnotationQuery {
  expr: string;
  step: string;
  titleFormat: string;
  textFormat: string;
}

interface VariableQuery {
  query: string;
  refId: string;
}

interface DataLink {
  title: string;
  url: string;
  targetBlank?: boolean;
}

interface Fields<Custom> extends Omit<model.FieldConfig, "custom" | "links"> {
  custom?: Custom;
  links?: DataLink[];
}

// A property of an override has the type that the same property has where it holds for all answers.
type Override<Custom> = {
  matcher: { id: "byFrameRefID"; options: string };
  properties: (
    | { id: "color"; value: model.FieldColor }
    | { id: "unit"; value: string }
    | { id: "decimals"; value: number }
    | { id: "mappings"; value: model.ValueMapping[] }
    | { [K in keyof Custom & string]-?: { id: `custom.${K}`; value: Custom[K] } }[keyof Custom & string]
  )[];
};

interface PanelOf<Kind extends string, Options, Custom>
  extends Omit<model.Panel, "type" | "options" | "fieldConfig" | "targets"> {
  type: Kind;
  id: number;
  title: string;
  description: string;
  gridPos: model.GridPos;
  options: Options;
  fieldConfig: { defaults: Fields<Custom>; overrides: Override<Custom>[] };
  targets: PrometheusQuery[];
}

type AnyPanel =
  | PanelOf<"stat", stat.Options, Record<never, never>>
  | PanelOf<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | PanelOf<"state-timeline", timeline.Options, timeline.FieldConfig>;

interface AnyRow extends Omit<model.RowPanel, "panels"> {
  panels: AnyPanel[];
}

interface AnyVariable extends Omit<model.VariableModel, "query"> {
  query: string | VariableQuery;
}

interface AnyDashboard extends Omit<model.Dashboard, "panels" | "templating" | "annotations"> {
  panels: (AnyPanel | AnyRow)[];
  templating: { list: AnyVariable[] };
  annotations: { list: PrometheusAnnotation[] };
}

export type Imported = Plain<AnyDashboard>;
